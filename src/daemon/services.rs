//! Runs that are started with the machine. Their records are the host's that runs them.

use super::docs;
use super::fail::{Fail, Outcome};
use super::state::Daemon;
use crate::control::api::Service;

impl Daemon {
    pub fn services(&self) -> Outcome<Vec<Service>> {
        let mut all: Vec<Service> =
            docs::all(&self.store).map_err(|e| Fail::internal("cannot list services", &e))?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    pub fn put_service(&self, name: &str, record: serde_json::Value) -> Outcome<()> {
        crate::build::check_name(name).map_err(|e| Fail::bad(e.to_string()))?;
        let service = Service {
            name: name.to_owned(),
            record,
        };
        docs::save(&self.store, &service)
            .map_err(|e| Fail::internal(format!("cannot record service {name}"), &e))
    }

    pub fn remove_service(&self, name: &str) -> Outcome<()> {
        let known = docs::get::<Service>(&self.store, name.as_bytes())
            .map_err(|e| Fail::internal(format!("cannot look for service {name}"), &e))?;
        let service =
            known.ok_or_else(|| Fail::not_found(format!("there is no service named {name}")))?;
        docs::delete(&self.store, &service)
            .map_err(|e| Fail::internal(format!("cannot forget service {name}"), &e))
    }
}
