//! What a node says while it gives back.

use super::*;

#[test]
fn a_node_with_pods_is_not_torn_down_and_the_pods_are_named() {
    assert!(refuse_with_plans(&[]).is_ok());
    let plan = plans::tests::plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
    let error = refuse_with_plans(&[plan]).unwrap_err().to_string();
    assert_eq!(
        error,
        "1 pods are attached on this node (team-a/llama-5); end them first"
    );
}

#[test]
fn a_node_that_gives_back_is_not_ready_and_says_what_it_waits_for_or_left() {
    let attached = TeardownError::Attached {
        count: 1,
        pods: "team-a/llama-5".to_owned(),
    };
    let left = ["port eth1 keeps its MTU".to_owned()];
    for (given_back, left, holds, reason, message) in [
        (Ok(()), &[][..], true, "TornDown", "the node is as before"),
        (Ok(()), &left[..], true, "TornDown", "port eth1 keeps its MTU"),
        (
            Err(attached),
            &[][..],
            false,
            "AttachmentsLeft",
            "1 pods are attached on this node (team-a/llama-5); end them first",
        ),
        (
            Err(TeardownError::Panicked),
            &[][..],
            false,
            "Failed",
            "the agent's work on the node panicked; see its log",
        ),
    ] {
        let findings = findings(&given_back, left);
        let [not_ready, torn_down] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!((not_ready.holds, not_ready.reason.name()), (false, "TearingDown"));
        assert_eq!((torn_down.holds, torn_down.reason.name()), (holds, reason));
        assert_eq!(torn_down.message, message);
    }
}
