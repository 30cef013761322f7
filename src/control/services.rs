//! The client's calls for runs that are started with the machine.

use super::api::Service;
use super::client::{Client, ClientError};
use hyper::Method;

impl Client {
    pub fn services(&self) -> Result<Vec<Service>, ClientError> {
        self.get("/v1/services")
    }

    /// `name` is one of ours: it becomes part of a path.
    pub fn put_service<T: serde::Serialize>(
        &self,
        name: &str,
        record: &T,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/services/{name}");
        self.call(Method::PUT, &path, Some(record))
    }

    /// None of that name is as well.
    pub fn remove_service(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&format!("/v1/services/{name}"))
    }
}
