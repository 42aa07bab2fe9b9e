//! Policy rules: which table looks after packets from an address.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use serde::{Deserialize, Serialize};

use super::RouteSocket;
use crate::netlink::NetlinkError;

/// `from <source> lookup <table>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Packets from this prefix.
    pub from: IpNet,
    /// Routing table.
    pub table: u32,
    /// Lower is asked first.
    pub priority: u32,
}

impl Rule {
    /// The rule for one source address.
    pub fn from_address(address: IpAddr, table: u32, priority: u32) -> Self {
        Self {
            from: IpNet::from(address),
            table,
            priority,
        }
    }
}

impl RouteSocket {
    /// All rules that choose a table by source alone, of both families.
    pub fn rules(&mut self) -> Result<Vec<Rule>, NetlinkError> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let answers = match self.socket.dump("list rules", &RouteNetlinkMessage::GetRule(message)) {
                Ok(answers) => answers,
                // A kernel without IPv6 has no rules of that family.
                Err(error) if error.errno() == Some(nix::errno::Errno::EAFNOSUPPORT) => continue,
                Err(error) => return Err(error),
            };
            rules.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRule(message) => from_message(&message),
                _ => None,
            }));
        }
        Ok(rules)
    }

    /// Adds a rule; EEXIST when the same one is there already.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        self.socket.change(
            &format!("add {}", describe(rule)),
            RouteNetlinkMessage::NewRule(to_message(rule)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Removes a rule.
    pub fn remove_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        self.socket.change(
            &format!("remove {}", describe(rule)),
            RouteNetlinkMessage::DelRule(to_message(rule)),
            0,
        )
    }
}

fn describe(rule: &Rule) -> String {
    format!(
        "rule from {} lookup {} priority {}",
        rule.from, rule.table, rule.priority
    )
}

pub(super) fn to_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match rule.from {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.src_len = rule.from.prefix_len();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(rule.from.network()),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(rule.priority),
    ];
    message
}

pub(super) fn from_message(message: &RuleMessage) -> Option<Rule> {
    if message.header.action != RuleAction::ToTable {
        return None;
    }
    let (mut source, mut priority) = (None, 0);
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(ip) => source = Some(*ip),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Priority(number) => priority = *number,
            _ => {}
        }
    }
    Some(Rule {
        from: IpNet::new(source?, message.header.src_len).ok()?,
        table,
        priority,
    })
}
