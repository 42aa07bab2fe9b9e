//! The result of ADD: the previous result, unchanged in value, with our interfaces and addresses behind its own.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{CniError, Code, Config, SUPPORTED_VERSIONS, environment::shorten};

/// One wired rail, as far as a runtime cares.
#[derive(Clone, Debug)]
pub(crate) struct InterfaceResult {
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) mtu: u32,
    pub(crate) pci_address: String,
    pub(crate) addresses: Vec<IpNet>,
}

/// How a version of the protocol writes what it knows of interfaces (containernetworking/cni SPEC.md of each version).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// 0.1.0 and 0.2.0: `ip4` and `ip6` of the pod's only interface. There is no word for another one.
    OneInterface,
    /// 0.3.0 to 0.4.0: lists; an address says of which IP version it is.
    Lists,
    /// 1.0.0: lists.
    PlainLists,
    /// 1.1.0: an interface also has its MTU and PCI address.
    DetailedLists,
}

impl Shape {
    fn of(version: &str) -> Option<Self> {
        match version {
            // The specification: an absent version is 0.1.0.
            "" | "0.1.0" | "0.2.0" => Some(Self::OneInterface),
            "0.3.0" | "0.3.1" | "0.4.0" => Some(Self::Lists),
            "1.0.0" => Some(Self::PlainLists),
            "1.1.0" => Some(Self::DetailedLists),
            _ => None,
        }
    }
}

/// What a chained plugin prints when it did nothing: what it got.
pub(crate) fn previous_result(config: &Config) -> Value {
    config
        .previous_result
        .clone()
        .unwrap_or_else(|| json!({ "cniVersion": config.version }))
}

/// The previous result with our rails appended. Entries of other plugins keep their places, because addresses refer to
/// interfaces by position and runtimes take the pod's address from the first interface. In the versions that know one
/// interface only, that is the cluster network's and the result stays as it is.
pub(crate) fn extend_result(config: &Config, sandbox: &str, rails: &[InterfaceResult]) -> Result<Value, CniError> {
    let mut result = match previous_result(config) {
        Value::Object(result) => result,
        _ => Map::new(),
    };
    // Runtimes read a result by the version that it names itself, which an old plugin may choose differently.
    let version = result
        .get("cniVersion")
        .and_then(Value::as_str)
        .filter(|version| !version.is_empty())
        .unwrap_or(&config.version);
    let shape = Shape::of(version).ok_or_else(|| {
        CniError::new(
            Code::IncompatibleVersion,
            format!(
                "a pod with rails cannot be wired under CNI version {:?}, since this release does not know how its results are written; set the cniVersion of the cluster's CNI configuration to one of {}, or upgrade Railhead",
                shorten(version),
                SUPPORTED_VERSIONS.join(", ")
            ),
        )
    })?;
    if shape == Shape::OneInterface {
        return Ok(result.into());
    }
    let mut interfaces = take_list(&mut result, "interfaces")?;
    let mut ips = take_list(&mut result, "ips")?;
    for rail in rails {
        let place = interfaces.len();
        let mut interface = json!({ "name": rail.name, "mac": rail.mac, "sandbox": sandbox });
        if shape == Shape::DetailedLists {
            interface["mtu"] = rail.mtu.into();
            interface["pciID"] = rail.pci_address.clone().into();
        }
        interfaces.push(interface);
        for address in &rail.addresses {
            let mut ip = json!({ "address": address.to_string(), "interface": place });
            if shape == Shape::Lists {
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

    fn extended(config: &Config) -> Value {
        extend_result(config, "/run/netns/x", &[rail()]).unwrap()
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
        let result = extended(&config);
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
    fn each_version_gets_the_fields_that_it_has() {
        let result = extended(&config("1.0.0", &json!({})));
        assert!(result["interfaces"][0].get("mtu").is_none());
        assert!(result["interfaces"][0].get("pciID").is_none());
        assert!(result["ips"][0].get("version").is_none());
        for version in ["0.3.0", "0.3.1", "0.4.0"] {
            let result = extended(&config(version, &Value::Null));
            assert_eq!(result["ips"][0]["version"], "4");
            assert_eq!(result["ips"][0]["interface"], 0);
            assert_eq!(result["cniVersion"], version);
        }
    }

    #[test]
    fn a_version_that_knows_one_interface_keeps_it() {
        for version in ["", "0.1.0", "0.2.0"] {
            let previous = json!({"cniVersion": version, "ip4": {"ip": "10.244.0.5/24"}, "dns": {}});
            assert_eq!(extended(&config(version, &previous)), previous, "{version:?}");
        }
    }

    #[test]
    fn a_result_is_extended_in_the_version_that_it_names() {
        let result = extended(&config("1.1.0", &json!({"cniVersion": "0.3.1", "ips": []})));
        assert_eq!(result["ips"][0]["version"], "4");
        assert!(result["interfaces"][0].get("mtu").is_none());
    }

    #[test]
    fn a_result_of_the_future_is_not_guessed() {
        let error = extend_result(&config("2.0.0", &json!({})), "/n", &[]).unwrap_err();
        assert_eq!(error.code, Code::IncompatibleVersion);
        assert!(error.message.contains("2.0.0"), "{}", error.message);
        assert!(error.message.contains("upgrade Railhead"), "{}", error.message);
    }

    #[test]
    fn a_previous_result_of_the_wrong_shape_is_an_error() {
        let config = config("1.0.0", &json!({"ips": "none"}));
        let error = extend_result(&config, "/n", &[rail()]).unwrap_err();
        assert_eq!(error.code, Code::Decode);
    }
}
