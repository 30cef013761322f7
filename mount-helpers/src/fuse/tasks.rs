//! Requests as tasks.

use super::export::Export;
use super::fs::Fs;
use fuser::Request;
use std::sync::Arc;
use std::task::{Context, Waker};

impl Fs {
    /// On a task of its own.
    pub(super) fn go<F>(&self, req: &Request, operation: impl FnOnce(Arc<Export>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let waits = self.waiting.begin(req.unique().into(), req.pid());
        let operation = operation(self.export.clone());
        self.runtime.spawn(async move {
            operation.await;
            drop(waits);
        });
    }

    /// As [`Fs::go`], of what mostly takes nothing that is not here: answered right on the
    /// thread that reads requests, where nothing has to be waited for.
    pub(super) fn go_now<F>(&self, req: &Request, operation: impl FnOnce(Arc<Export>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let waits = self.waiting.begin(req.unique().into(), req.pid());
        let operation = operation(self.export.clone());
        let mut operation = Box::pin(async move {
            operation.await;
            drop(waits);
        });
        let _runtime = self.runtime.enter();
        let mut nobody = Context::from_waker(Waker::noop());
        if operation.as_mut().poll(&mut nobody).is_pending() {
            self.runtime.spawn(operation);
        }
    }
}
