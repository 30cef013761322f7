//! A pocker as text: what the control API carries, and what an object store keeps under its name.

use crate::control::api::RunConfig;
use pocker_store::sync::Named;
use pocker_store::types::Digest;
use pocker_store::{Pocker, Step};
use serde::{Deserialize, Serialize};

/// Steps of one pocker: a Pockerfile of so many lines is no Pockerfile.
const STEPS_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedInfo {
    pub name: String,
    pub created: i64,
    pub config: RunConfig,
    pub steps: Vec<NamedStep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedStep {
    pub key: String,
    pub snapshot: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    pub instruction: String,
    /// Hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inputs: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    pub created: i64,
}

/// Why text is no pocker.
#[derive(Debug, thiserror::Error)]
#[error("it is no description of a pocker: {0}")]
pub struct NotNamed(pub String);

impl NamedInfo {
    pub fn of(named: &Named) -> Result<NamedInfo, NotNamed> {
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec());
            text.map_err(|_| NotNamed("what is text in it is not UTF-8".into()))
        };
        let step = |step: &Step| {
            Ok(NamedStep {
                key: step.key.to_string(),
                snapshot: step.snapshot.to_string(),
                parent: step.parent.map(|parent| parent.to_string()),
                instruction: text(&step.instruction)?,
                inputs: hex::encode(&step.inputs),
                upstream: step.upstream.as_deref().map(text).transpose()?,
                created: step.created,
            })
        };
        Ok(NamedInfo {
            name: text(&named.pocker.name)?,
            created: named.pocker.created,
            config: serde_json::from_slice(&named.pocker.config)
                .map_err(|e| NotNamed(e.to_string()))?,
            steps: named.steps.iter().map(step).collect::<Result<_, _>>()?,
        })
    }

    /// Believed only where it makes sense.
    pub fn named(&self) -> Result<Named, NotNamed> {
        let no = |why: String| NotNamed(why);
        crate::build::check_name(&self.name).map_err(|e| no(e.to_string()))?;
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return Err(no(format!("it has {} steps", self.steps.len())));
        }
        let digest = |text: &str| {
            text.parse::<Digest>()
                .map_err(|_| no("a digest in it is none".into()))
        };
        let step = |step: &NamedStep| {
            Ok(Step {
                key: digest(&step.key)?,
                snapshot: digest(&step.snapshot)?,
                parent: step.parent.as_deref().map(digest).transpose()?,
                instruction: step.instruction.clone().into_bytes(),
                inputs: hex::decode(&step.inputs)
                    .map_err(|_| no("a step's inputs are not hexadecimal".into()))?,
                upstream: step.upstream.clone().map(String::into_bytes),
                created: step.created,
            })
        };
        let steps: Vec<Step> = self.steps.iter().map(step).collect::<Result<_, _>>()?;
        Ok(Named {
            pocker: Pocker {
                name: self.name.clone().into_bytes(),
                steps: steps.iter().map(|step| step.key).collect(),
                config: serde_json::to_vec(&self.config).map_err(|e| no(e.to_string()))?,
                created: self.created,
            },
            steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> NamedInfo {
        NamedInfo {
            name: "box".into(),
            created: 7,
            config: RunConfig {
                command: "echo".into(),
                ..RunConfig::default()
            },
            steps: vec![NamedStep {
                key: "a".repeat(64),
                snapshot: "b".repeat(64),
                parent: None,
                instruction: "EXEC echo".into(),
                inputs: "00ff".into(),
                upstream: Some("release".into()),
                created: 5,
            }],
        }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let named = info().named().expect("named");
        assert_eq!(NamedInfo::of(&named).expect("text"), info());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |change: fn(&mut NamedInfo)| {
            let mut bad = info();
            change(&mut bad);
            bad.named().expect_err("refused").to_string()
        };
        assert!(refused(|i| i.name = "../etc".into()).contains("name"));
        assert!(refused(|i| i.steps.clear()).contains("0 steps"));
        assert!(refused(|i| i.steps[0].key = "x".into()).contains("digest"));
        assert!(refused(|i| i.steps[0].inputs = "x".into()).contains("hexadecimal"));
    }
}
