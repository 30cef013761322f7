//! Runs that are started with the machine. Their records are the host's that runs them.

use super::fail::{Fail, Outcome};
use super::state::Daemon;
use super::{bounds, docs};
use crate::control::api::Service;
use crate::control::hosts::Id;

/// A name is of one host; this one's have nothing before them.
fn key(host: Option<Id>, name: &str) -> String {
    host.map_or_else(|| name.to_owned(), |host| format!("{host}/{name}"))
}

impl Daemon {
    pub fn services(&self, host: Option<Id>) -> Outcome<Vec<Service>> {
        let all: Vec<Service> =
            docs::all(&self.store).map_err(|e| Fail::internal("cannot list services", &e))?;
        let own = all.into_iter().filter_map(|service| {
            let name = match (host, service.name.split_once('/')) {
                (None, None) => service.name,
                (Some(host), Some((of, name))) if host.to_string() == of => name.to_owned(),
                _ => return None,
            };
            Some(Service { name, ..service })
        });
        let mut all: Vec<Service> = own.collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Whose each service is.
    pub fn service_hosts(&self) -> Outcome<Vec<Option<Id>>> {
        let all: Vec<Service> =
            docs::all(&self.store).map_err(|e| Fail::internal("cannot list services", &e))?;
        let of = |service: &Service| service.name.split_once('/')?.0.parse().ok();
        Ok(all.iter().map(of).collect())
    }

    pub fn put_service(
        &self,
        host: Option<Id>,
        name: &str,
        record: serde_json::Value,
    ) -> Outcome<()> {
        let _one = self.change.lock();
        crate::build::check_name(name).map_err(|e| Fail::bad(e.to_string()))?;
        bounds::service(name, record.to_string().as_bytes())?;
        let own = self.services(host)?;
        if own.iter().all(|service| service.name != name) {
            let hint = "forget some: `pocker prune RUN`, or start runs without `--restart always`";
            bounds::room(
                "services",
                host,
                self.service_hosts()?,
                bounds::SERVICES,
                hint,
            )?;
        }
        let service = Service {
            name: key(host, name),
            record,
        };
        docs::save(&self.store, &service)
            .map_err(|e| Fail::internal(format!("cannot record service {name}"), &e))
    }

    pub fn remove_service(&self, host: Option<Id>, name: &str) -> Outcome<()> {
        let known = docs::get::<Service>(&self.store, key(host, name).as_bytes())
            .map_err(|e| Fail::internal(format!("cannot look for service {name}"), &e))?;
        let service =
            known.ok_or_else(|| Fail::not_found(format!("there is no service named {name}")))?;
        docs::delete(&self.store, &service)
            .map_err(|e| Fail::internal(format!("cannot forget service {name}"), &e))
    }
}
