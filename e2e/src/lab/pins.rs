//! What the lab takes from elsewhere: the typed form of `e2e/lab/pins.toml`.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const PINS: &str = include_str!("../../lab/pins.toml");

/// All pins.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Programs that are built from Go modules.
    #[serde(rename = "program")]
    pub programs: Vec<Program>,
    /// The node's root file system.
    pub root: Root,
    /// The node's kernel.
    pub kernel: Kernel,
}

/// One Go module and the programs wanted from it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The name of its folder in the cache.
    pub name: String,
    /// Go module path.
    pub module: String,
    /// Version without the leading `v`.
    pub version: String,
    /// Packages to build, relative to the module.
    pub packages: Vec<String>,
    /// Version of the modules that are required at v0.0.0.
    #[serde(default)]
    pub staging: Option<String>,
    /// Build tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Linker `-X` values.
    #[serde(default)]
    pub stamp: Vec<String>,
    /// Name of the one binary, where the package is called differently.
    #[serde(default)]
    pub binary: Option<String>,
}

/// The node's root file system.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Debian suite.
    pub suite: String,
    /// Packages on top of a minimal Debian.
    pub packages: Vec<String>,
}

/// The node's kernel.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Debian suite that has it.
    pub suite: String,
    /// Oldest version that will do.
    pub minimum: String,
}

impl Pins {
    /// Reads the pins that this program was built with.
    pub fn load() -> Result<Self> {
        toml::from_str(PINS).context("e2e/lab/pins.toml does not parse")
    }

    /// The program with this name.
    pub fn program(&self, name: &str) -> Result<&Program> {
        self.programs
            .iter()
            .find(|p| p.name == name)
            .with_context(|| format!("e2e/lab/pins.toml has no [[program]] named {name}"))
    }
}

/// First eight hex digits of the hash over a pin and the version of the recipe that builds it.
pub fn key(pin: &impl Serialize, recipe: &str) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(pin).context("a pin cannot be written as JSON")?);
    hash.update(recipe.as_bytes());
    Ok(hash.finalize()[..4]
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_in_the_repository_parse_and_name_every_part() {
        let pins = Pins::load().unwrap();
        for name in ["kubernetes", "etcd", "containerd", "helm", "cnitool"] {
            assert!(pins.program(name).is_ok(), "{name} is not pinned");
        }
    }

    #[test]
    fn a_changed_pin_or_recipe_gets_a_folder_of_its_own() {
        let kernel = Kernel {
            suite: "trixie-backports".into(),
            minimum: "7.1".into(),
        };
        let newer = Kernel {
            minimum: "7.2".into(),
            ..kernel.clone()
        };
        assert_ne!(key(&kernel, "1").unwrap(), key(&newer, "1").unwrap());
        assert_ne!(key(&kernel, "1").unwrap(), key(&kernel, "2").unwrap());
        assert_eq!(key(&kernel, "1").unwrap(), key(&kernel, "1").unwrap());
    }
}
