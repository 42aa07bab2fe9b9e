//! The result of ADD: the previous result, unchanged in value, with our interfaces and addresses behind its own.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{CniError, Code, Config};

/// One wired rail, as far as a runtime cares.
#[derive(Clone, Debug)]
pub(crate) struct InterfaceResult {
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) mtu: u32,
    pub(crate) pci_address: String,
    pub(crate) addresses: Vec<IpNet>,
}

/// What a chained plugin prints when it did nothing.
pub(crate) fn previous_result(config: &Config) -> Value {
    config
        .previous_result
        .clone()
        .unwrap_or_else(|| json!({ "cniVersion": config.version }))
}

/// The previous result with our rails appended. Entries of other plugins keep their places, because addresses refer to
/// interfaces by position and runtimes take the pod's address from the first interface.
pub(crate) fn extend_result(config: &Config, sandbox: &str, rails: &[InterfaceResult]) -> Result<Value, CniError> {
    let mut result = match previous_result(config) {
        Value::Object(result) => result,
        _ => Map::new(),
    };
    let mut interfaces = take_list(&mut result, "interfaces")?;
    let mut ips = take_list(&mut result, "ips")?;
    let newest = config.version == "1.1.0";
    for rail in rails {
        let place = interfaces.len();
        let mut interface = json!({ "name": rail.name, "mac": rail.mac, "sandbox": sandbox });
        if newest {
            interface["mtu"] = rail.mtu.into();
            interface["pciID"] = rail.pci_address.clone().into();
        }
        interfaces.push(interface);
        for address in &rail.addresses {
            let mut ip = json!({ "address": address.to_string(), "interface": place });
            if config.version.starts_with("0.") {
                // Required until 0.4.0, gone in 1.0.0.
                ip["version"] = if address.addr().is_ipv4() { "4" } else { "6" }.into();
            }
            ips.push(ip);
        }
    }
    result.insert("interfaces".to_owned(), interfaces.into());
    result.insert("ips".to_owned(), ips.into());
    Ok(result.into())
}

fn take_list(result: &mut Map<String, Value>, key: &str) -> Result<Vec<Value>, CniError> {
    match result.remove(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(CniError::new(
            Code::Decode,
            format!("prevResult.{key} is not a list; look at the plugin before this one in the chain"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(version: &str, previous: &Value) -> Config {
        Config::parse(
            json!({ "cniVersion": version, "name": "pod", "prevResult": previous })
                .to_string()
                .as_bytes(),
        )
        .unwrap()
    }

    fn rail() -> InterfaceResult {
        InterfaceResult {
            name: "rail0".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            mtu: 9000,
            pci_address: "0000:18:00.3".to_owned(),
            addresses: vec!["10.0.0.1/24".parse().unwrap()],
        }
    }

    #[test]
    fn entries_of_other_plugins_keep_value_and_place() {
        let previous = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "veth1", "mac": "aa:bb:cc:dd:ee:ff"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
            "ips": [{"address": "10.244.0.5/24", "gateway": "10.244.0.1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {"nameservers": ["10.96.0.10"]},
            "unknownToUs": {"number": 1.5, "big": 18_446_744_073_709_551_615_u64}
        });
        let config = config("1.1.0", &previous);
        assert_eq!(previous_result(&config), previous);
        let result = extend_result(&config, "/run/netns/x", &[rail()]).unwrap();
        for key in ["routes", "dns", "unknownToUs", "cniVersion"] {
            assert_eq!(result[key], previous[key]);
        }
        assert_eq!(result["interfaces"][0], previous["interfaces"][0]);
        assert_eq!(result["interfaces"][1], previous["interfaces"][1]);
        assert_eq!(
            result["interfaces"][2],
            json!({"name": "rail0", "mac": "02:00:00:00:00:01", "mtu": 9000, "sandbox": "/run/netns/x", "pciID": "0000:18:00.3"})
        );
        assert_eq!(result["ips"][0], previous["ips"][0]);
        assert_eq!(result["ips"][1], json!({"address": "10.0.0.1/24", "interface": 2}));
    }

    #[test]
    fn fields_of_newer_versions_are_not_sent_to_older_runtimes() {
        let result = extend_result(&config("1.0.0", &json!({})), "/n", &[rail()]).unwrap();
        assert!(result["interfaces"][0].get("mtu").is_none());
        assert!(result["interfaces"][0].get("pciID").is_none());
        let result = extend_result(&config("0.4.0", &Value::Null), "/n", &[rail()]).unwrap();
        assert_eq!(result["ips"][0]["version"], "4");
        assert_eq!(result["cniVersion"], "0.4.0");
    }

    #[test]
    fn a_previous_result_of_the_wrong_shape_is_an_error() {
        let config = config("1.0.0", &json!({"ips": "none"}));
        let error = extend_result(&config, "/n", &[rail()]).unwrap_err();
        assert_eq!(error.code, Code::Decode);
    }
}
