//! Which failures of the API server pass by themselves.

/// Whether the same request may succeed a little later: nobody answered, or somebody who has too much to do.
pub fn is_transient(error: &kube::Error) -> bool {
    match error {
        // 401: a token was just renewed, or the server that came up does not know its keys yet.
        kube::Error::Api(status) => matches!(status.code, 401 | 408 | 409 | 429 | 500 | 502 | 503 | 504),
        kube::Error::HyperError(_)
        | kube::Error::Service(_)
        | kube::Error::ReadEvents(_)
        | kube::Error::Auth(_)
        // An answer that was cut off.
        | kube::Error::FromUtf8(_)
        | kube::Error::SerdeError(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_refusal_stays_one_and_a_server_that_is_busy_or_gone_does_not() {
        let answer = |code: u16| kube::Error::Api(Status::failure("", "").with_code(code).boxed());
        assert!(is_transient(&answer(503)) && is_transient(&answer(429)) && is_transient(&answer(500)));
        assert!(!is_transient(&answer(403)) && !is_transient(&answer(404)) && !is_transient(&answer(422)));
        assert!(is_transient(&kube::Error::Service("connection refused".into())));
    }
}
