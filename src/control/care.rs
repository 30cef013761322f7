//! The client's calls for the care of the store.

use super::api::*;
use super::client::{Client, ClientError};
use hyper::Method;

impl Client {
    /// Drops what nothing refers to.
    pub fn gc(&self, request: &GcRequest) -> Result<GcDone, ClientError> {
        let GcRequest {
            dry_run,
            keep,
            older,
            pack,
        } = request;
        let mut path = format!("/v1/gc?dry_run={dry_run}");
        for (name, value) in [("keep", keep), ("older", older), ("pack", pack)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        }
        self.call(Method::POST, &path, Some(&()))
    }

    pub fn pins(&self) -> Result<Vec<PinInfo>, ClientError> {
        self.get("/v1/pins")
    }

    pub fn pin(&self, new: &NewPin) -> Result<PinInfo, ClientError> {
        self.call(Method::POST, "/v1/pins", Some(new))
    }

    pub fn unpin(&self, key: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, &format!("/v1/pins/{key}"), None::<&()>)
    }

    /// Copies the store to a folder of the server's host.
    pub fn backup(&self, dir: &str) -> Result<BackupDone, ClientError> {
        self.call(Method::POST, "/v1/store/backup", Some(&dir))
    }

    /// Checks the whole store, and repairs it when told to.
    pub fn fsck(&self, repair: bool) -> Result<FsckDone, ClientError> {
        self.call(
            Method::POST,
            &format!("/v1/fsck?repair={repair}"),
            Some(&()),
        )
    }
}
