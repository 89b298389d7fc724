//! The calls of a lease for tasks.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Lease, response_of};
use crate::claim::StoredResponse;
use crate::engine::Request;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::store::StoreFuture;
use crate::transition::Command;

/// The same calls as futures. They copy their arguments and own what they need.
///
/// **Cancel safety**: dropped before it is first polled, or while the queue is full, such a future does
/// nothing. Once its command is in the queue it is *accepted*: it is carried out though the future be
/// dropped, and the lease with it. The holder stays until then. Should a completion fail, or be dropped
/// while it waits for room in the queue, the lease stays held to its end, because the operation did run.
impl Lease {
    /// As [`save_recovery_point`](Self::save_recovery_point).
    ///
    /// # Errors
    /// As there.
    pub fn save_recovery_point_async(&self, bytes: impl AsRef<[u8]>) -> StoreFuture<Result<()>> {
        let saved = self.carry_out_async(self.save_command(bytes.as_ref()));
        // Dropped here: carried out if it was accepted, as of every call below.
        StoreFuture::new(async move { saved.await.map(drop) })
    }

    /// As [`renew`](Self::renew).
    ///
    /// # Errors
    /// As there.
    pub fn renew_async(&self, lease_for: Duration) -> StoreFuture<Result<()>> {
        let renewed = self.carry_out_async(self.renew_command(lease_for));
        StoreFuture::new(async move { renewed.await.map(drop) })
    }

    /// As [`complete`](Self::complete).
    ///
    /// # Errors
    /// As there.
    pub fn complete_async(&self, response: impl AsRef<[u8]>) -> StoreFuture<Result<()>> {
        let finished = self.finish_async(response.as_ref(), None);
        StoreFuture::new(async move { finished.await.map(drop) })
    }

    /// As [`complete_for`](Self::complete_for).
    ///
    /// # Errors
    /// As there.
    pub fn complete_for_async(
        &self,
        response: impl AsRef<[u8]>,
        retain_for: Duration,
    ) -> StoreFuture<Result<()>> {
        let finished = self.finish_async(response.as_ref(), Some(retain_for));
        StoreFuture::new(async move { finished.await.map(drop) })
    }

    /// As [`complete_json`](Self::complete_json).
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "json")]
    pub fn complete_json_async<T: serde::Serialize + ?Sized>(
        &self,
        response: &T,
    ) -> StoreFuture<Result<()>> {
        let complete =
            super::json_of(response).and_then(|bytes| self.complete_command(&bytes, None));
        let finished = self.complete_with(complete);
        StoreFuture::new(async move { finished.await.map(drop) })
    }

    /// As [`release`](Self::release).
    ///
    /// # Errors
    /// As there.
    pub fn release_async(&self) -> StoreFuture<Result<()>> {
        let released = self.carry_out_async(Ok(self.release_command()));
        StoreFuture::new(async move { released.await.map(drop) })
    }

    /// Completes, and gives the record as it is then.
    pub(crate) fn finish_async(
        &self,
        response: &[u8],
        retain_for: Option<Duration>,
    ) -> impl Future<Output = Result<StoredResponse>> + Send + use<> {
        self.complete_with(self.complete_command(response, retain_for))
    }

    fn complete_with(
        &self,
        complete: Result<Command>,
    ) -> impl Future<Output = Result<StoredResponse>> + Send + use<> {
        let share = self.share.clone();
        let completed = self.carry_out_async(complete);
        async move {
            // The operation did run. If this is dropped, or refused, before it comes to the queue, nobody
            // else will say so.
            share.note_complete(Some(&Error::Indeterminate));
            let finished = completed.await.and_then(response_of);
            share.note_complete(finished.as_ref().err());
            finished
        }
    }

    fn carry_out_async(
        &self,
        command: Result<Command>,
    ) -> impl Future<Output = Result<Option<Arc<Record>>>> + Send + use<> {
        let (share, key) = (self.share.clone(), self.key.clone());
        async move {
            let request = Request::new(key, command?);
            let answer = share.handle.commit_async(request, share.hold()).await?;
            Ok(answer.record)
        }
    }
}
