//! Versions of the protocol.

use serde_json::json;

use crate::node::{Sandbox, answer, call, call_with, on_a_node, plan, succeeded};

#[test]
fn a_pod_is_wired_in_every_version_of_the_protocol_that_there_is() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        for version in ["", "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let lists = version > "0.2.0";
            let previous = if lists {
                json!({"cniVersion": version, "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.244.0.5/24"}]})
            } else {
                json!({"cniVersion": version, "ip4": {"ip": "10.244.0.5/24"}})
            };
            let config = json!({"cniVersion": version, "prevResult": previous});
            let sandbox = Sandbox::new("c1");
            let added = call_with(&node.context(), "ADD", &sandbox, &config);
            succeeded(&added);
            sandbox.ip("link show dev rail0");
            let result = answer(&added);
            if lists {
                assert_eq!(result["interfaces"][1]["name"], "rail0", "{version}");
                assert_eq!(result["ips"][0], previous["ips"][0], "{version}");
                let with_ip_version = result["ips"][1].get("version").is_some();
                assert_eq!(with_ip_version, version < "1.0.0", "{version}");
            } else {
                assert_eq!(result, previous, "{version:?} has no word for a second interface");
            }
            succeeded(&call_with(&node.context(), "CHECK", &sandbox, &config));
            succeeded(&call_with(&node.context(), "DEL", &sandbox, &config));
            function.assert_at_home(version);
        }
    });
}

#[test]
fn under_a_version_of_the_future_a_pod_with_rails_is_refused_before_anything_is_touched_and_one_is_still_given_back() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let future = json!({"cniVersion": "2.0.0", "prevResult": {"cniVersion": "2.0.0", "links": []}});
        let sandbox = Sandbox::new("c1");
        let error = answer(&call_with(&node.context(), "ADD", &sandbox, &future));
        assert_eq!(error["code"], 1);
        assert!(error["msg"].as_str().unwrap().contains("\"2.0.0\""), "{error}");
        assert_eq!(node.leftovers(), Vec::<String>::new());
        function.assert_at_home("after a refused ADD");

        succeeded(&call(&node.context(), "ADD", &sandbox));
        succeeded(&call_with(&node.context(), "DEL", &sandbox, &future));
        function.assert_at_home("after DEL in another version");
    });
}
