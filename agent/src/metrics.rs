//! The agent's metrics.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// As wanted.
    Success,
    /// With an error, which kubelet or the next round tries again.
    Error,
}

/// Label `outcome`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    outcome: Outcome,
}

/// Label `rail`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RailLabel {
    rail: u32,
}

/// All metrics and the registry that they are in.
pub struct Metrics {
    registry: Registry,
    prepares: Family<OutcomeLabel, Counter>,
    unprepares: Family<OutcomeLabel, Counter>,
    doubtful_creations: Counter,
    prepare_seconds: Histogram,
    functions: Family<RailLabel, Gauge>,
    functions_used: Family<RailLabel, Gauge>,
    port_up: Family<RailLabel, Gauge>,
    wired: Gauge,
    degraded: Gauge,
    collected: Counter,
    chain_loaded: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("railhead_agent");
        let prepares = Family::default();
        registry.register("prepares", "Claims prepared, by outcome", prepares.clone());
        let unprepares = Family::default();
        registry.register("unprepares", "Claims given back, by outcome", unprepares.clone());
        let doubtful_creations = Counter::default();
        registry.register(
            "doubtful_creations",
            "Creations of NetworkAttachments that failed or were not answered, and may come through later",
            doubtful_creations.clone(),
        );
        let prepare_seconds = Histogram::new(exponential_buckets(0.01, 2.0, 12));
        registry.register(
            "prepare_seconds",
            "Time to prepare a claim, with waiting for its index",
            prepare_seconds.clone(),
        );
        let functions = Family::default();
        registry.register("functions", "Functions of a port", functions.clone());
        let functions_used = Family::default();
        registry.register(
            "functions_used",
            "Functions of a port that pods hold",
            functions_used.clone(),
        );
        let port_up = Family::default();
        registry.register("port_up", "Whether a port has a signal", port_up.clone());
        let wired = Gauge::default();
        registry.register("attachments_wired", "Pods wired on this node", wired.clone());
        let degraded = Gauge::default();
        registry.register(
            "attachments_degraded",
            "Wired pods whose rails are not as they were wired",
            degraded.clone(),
        );
        let collected = Counter::default();
        registry.register(
            "collected",
            "Attachments given back because their pod was gone",
            collected.clone(),
        );
        let chain_loaded = Gauge::default();
        registry.register(
            "chain_loaded",
            "Whether the container runtime has loaded the CNI chain entry",
            chain_loaded.clone(),
        );
        Self {
            registry,
            prepares,
            unprepares,
            doubtful_creations,
            prepare_seconds,
            functions,
            functions_used,
            port_up,
            wired,
            degraded,
            collected,
            chain_loaded,
        }
    }
}

impl Metrics {
    /// A claim was prepared, or not.
    pub fn prepared(&self, success: bool, seconds: f64) {
        self.prepares.get_or_create(&outcome(success)).inc();
        self.prepare_seconds.observe(seconds);
    }

    /// A claim was given back, or not.
    pub fn unprepared(&self, success: bool) {
        self.unprepares.get_or_create(&outcome(success)).inc();
    }

    /// An attachment may have been made, or be made yet, though nobody said so.
    pub fn creation_in_doubt(&self) {
        self.doubtful_creations.inc();
    }

    /// How often something happened that may have left an attachment which no plan names.
    pub fn doubts(&self) -> u64 {
        let failed = outcome(false);
        let calls = self.prepares.get_or_create(&failed).get() + self.unprepares.get_or_create(&failed).get();
        calls + self.doubtful_creations.get()
    }

    /// How a port is.
    pub fn port(&self, rail: u32, up: bool, functions: usize, used: usize) {
        let label = RailLabel { rail };
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.port_up.get_or_create(&label).set(up.into());
        self.functions.get_or_create(&label).set(number(functions));
        self.functions_used.get_or_create(&label).set(number(used));
    }

    /// How many pods are wired, and of how many the rails are not as they were wired.
    pub fn wired(&self, count: usize, degraded: usize) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.wired.set(number(count));
        self.degraded.set(number(degraded));
    }

    /// The garbage collector gave something back.
    pub fn collected(&self) {
        self.collected.inc();
    }

    /// Whether the chain entry is loaded.
    pub fn chain(&self, loaded: bool) {
        self.chain_loaded.set(loaded.into());
    }

    /// OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

fn outcome(success: bool) -> OutcomeLabel {
    OutcomeLabel {
        outcome: if success { Outcome::Success } else { Outcome::Error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_can_be_scraped() {
        let metrics = Metrics::default();
        metrics.prepared(true, 0.3);
        metrics.port(1, true, 7, 2);
        let text = metrics.text();
        assert!(
            text.contains("railhead_agent_prepares_total{outcome=\"Success\"} 1"),
            "{text}"
        );
        assert!(text.contains("railhead_agent_functions_used{rail=\"1\"} 2"), "{text}");
    }
}
