//! What `cargo deny check licenses bans sources` would say, from `cargo metadata` and the same `deny.toml`; and the circles
//! between the modules of a crate.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

pub mod circles;
mod licence;
mod tokens;

pub use licence::is_allowed;

/// The part of `deny.toml` that is read.
#[derive(Debug, Deserialize)]
pub struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

#[derive(Debug, Deserialize)]
struct Skip {
    /// Name of a crate that may come in several versions.
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: BTreeSet<String>,
}

/// The part of `cargo metadata` that is read.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// What of the crates is not allowed, a line each; and what the rules allow that nobody needs.
pub fn complaints(metadata: &Metadata, rules: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &metadata.packages {
        let (name, version) = (package.name.as_str(), package.version.as_str());
        versions.entry(name).or_default().insert(version);
        // Crates of the workspace have no source.
        let Some(source) = &package.source else { continue };
        let registry = source.strip_prefix("registry+").unwrap_or_default();
        if !rules.sources.allow_registry.contains(registry) {
            found.push(format!("{name} {version} comes from {source}"));
        }
        match &package.license {
            Some(licence) if is_allowed(licence, &rules.licenses.allow) => {}
            Some(licence) => found.push(format!("{name} {version} has the licence {licence}")),
            None => found.push(format!("{name} {version} has no licence")),
        }
    }
    let skipped: BTreeSet<&str> = rules.bans.skip.iter().map(|skip| skip.name.as_str()).collect();
    for (name, versions) in versions {
        let listed: Vec<&str> = versions.iter().copied().collect();
        match (versions.len() > 1, skipped.contains(name)) {
            (true, false) => found.push(format!("{name} comes in several versions: {}", listed.join(", "))),
            (false, true) => {
                found.push(format!("{name} comes in one version, and deny.toml lets it have several"))
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        licenses.allow = ["MIT"]
        bans.skip = [{ name = "two" }]
        sources.allow-registry = ["https://good"]"#;

    fn said(packages: &[(&str, &str, &str, &str)]) -> Vec<String> {
        let package = |(name, version, license, source): &(&str, &str, &str, &str)| Package {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            license: (!license.is_empty()).then(|| (*license).to_owned()),
            source: (!source.is_empty()).then(|| (*source).to_owned()),
        };
        let metadata = Metadata { packages: packages.iter().map(package).collect() };
        complaints(&metadata, &toml::from_str(RULES).unwrap())
    }

    #[test]
    fn each_kind_of_trespass_is_told() {
        let two = [
            ("two", "1.0.0", "MIT", "registry+https://good"),
            ("two", "2.0.0", "MIT", "registry+https://good"),
        ];
        let with = |package| {
            let mut packages = two.to_vec();
            packages.push(package);
            said(&packages)
        };
        assert_eq!(said(&two), [""; 0]);
        assert_eq!(with(("own", "1.0.0", "", "")), [""; 0], "crates of the workspace are our own");
        assert_eq!(
            with(("a", "1.0.0", "GPL-3.0", "registry+https://good")),
            ["a 1.0.0 has the licence GPL-3.0"]
        );
        assert_eq!(with(("a", "1.0.0", "", "registry+https://good")), ["a 1.0.0 has no licence"]);
        assert_eq!(with(("a", "1.0.0", "MIT", "git+https://good")), ["a 1.0.0 comes from git+https://good"]);
        assert_eq!(
            with(("a", "1.0.0", "MIT", "registry+https://bad")),
            ["a 1.0.0 comes from registry+https://bad"]
        );
        let one = said(&two[..1]);
        assert_eq!(one, ["two comes in one version, and deny.toml lets it have several"]);
        let others =
            [("a", "1.0.0", "MIT", "registry+https://good"), ("a", "1.1.0", "MIT", "registry+https://good")];
        assert!(
            said(&[two, others].concat()).contains(&"a comes in several versions: 1.0.0, 1.1.0".to_owned())
        );
    }
}
