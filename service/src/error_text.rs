//! Errors in one line.

use std::sync::Arc;

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(answer) = api_answer(cause) {
            return format!("{text}: {answer}");
        }
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What the API server answered, without the dump of the whole answer that kube's own text has.
fn api_answer<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
    let error = error
        .downcast_ref::<kube::Error>()
        .or_else(|| Some(error.downcast_ref::<Box<kube::Error>>()?))
        .or_else(|| Some(error.downcast_ref::<Arc<kube::Error>>()?))?;
    match error {
        kube::Error::Api(status) => Some(&status.message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_answered_is_logged_without_the_rest_of_its_answer() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write FabricLedger backend")]
        struct Failed {
            source: Arc<kube::Error>,
        }
        let status = kube::core::Status::failure("it is full", "Invalid").boxed();
        let source = Arc::new(kube::Error::Api(status));
        assert_eq!(
            chain(&Failed { source }),
            "cannot write FabricLedger backend: it is full"
        );
    }
}
