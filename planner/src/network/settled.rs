//! What a network with a slice refers to: the slice is the record, whatever became of class and fabric since.

use railhead_crds::{
    Addressing, ClassBandwidth, ClassVf, Fabric, FabricSpec, Management, NetworkSlice, QosClass, QosClassSpec, Rail,
    VlanMode, VlanPolicy, VlanRange,
};

use super::Resolved;

/// The network's references as they were when the slice was made. `fabric` is the one of that name, if it is still there.
pub fn from_slice(slice: &NetworkSlice, fabric: Option<&Fabric>) -> Resolved {
    let qos = &slice.spec.qos;
    let fabric = fabric
        .filter(|fabric| fabric.metadata.uid.as_ref() == Some(&slice.spec.fabric.uid))
        .cloned()
        .unwrap_or_else(|| bare_fabric(slice));
    let rails = slice
        .spec
        .rails
        .iter()
        .map(|wanted| Rail {
            id: wanted.id,
            name: wanted.name.clone(),
            speed: None,
            ports: Vec::new(),
            pools: Vec::new(),
        })
        .collect();
    let class = QosClassSpec {
        default: false,
        dscp: qos.dscp,
        priority: qos.priority,
        bandwidth: ClassBandwidth {
            guaranteed: qos.guaranteed,
            maximum: qos.maximum,
            largest_guarantee: None,
            smallest_guarantee: None,
        },
        vf: ClassVf {
            trust: qos.trust,
            spoof_check: qos.spoof_check,
        },
        allowed_namespaces: None,
    };
    Resolved {
        fabric,
        class: QosClass::new(&qos.class_name, class),
        rails,
        guaranteed: qos.guaranteed,
        maximum: qos.maximum,
    }
}

/// A fabric with nothing but its identity, for a slice whose fabric was taken away by force.
fn bare_fabric(slice: &NetworkSlice) -> Fabric {
    let vlan = slice.spec.rails.first().and_then(|rail| rail.vlan).unwrap_or(1);
    let mut fabric = Fabric::new(
        &slice.spec.fabric.name,
        FabricSpec {
            default: false,
            node_selector: None,
            allowed_namespaces: None,
            link_type: slice.spec.fabric.link_type,
            mtu: slice.spec.fabric.mtu,
            vfs_per_port: 0,
            soft_roce: slice.spec.fabric.soft_roce,
            management: Management::default(),
            addressing: Addressing::default(),
            vlan: VlanPolicy {
                mode: VlanMode::PerNetwork,
                range: VlanRange { min: vlan, max: vlan },
            },
            rails: Vec::new(),
            teardown: false,
        },
    );
    fabric.metadata.uid = Some(slice.spec.fabric.uid.clone());
    fabric
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        claim::{same_template, template},
        network::tests::{fabric, network, reserved},
    };

    #[test]
    fn an_edited_class_or_a_new_rail_does_not_alter_the_template_of_a_network_with_a_slice() {
        let network = network(json!({"pods": 2}));
        let (resolved, slice) = reserved(&network);
        let mut edited = fabric();
        edited.spec.rails.push(Rail {
            id: 7,
            name: "rail7".into(),
            ..edited.spec.rails[0].clone()
        });
        let before = template(&network, &resolved);
        let after = template(&network, &from_slice(&slice, Some(&edited)));
        assert!(same_template(&before, &after));
    }
}
