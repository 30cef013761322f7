//! An object store as the one that sends.

use super::error::Said;
use super::pack::{Place, Span, spans};
use super::{AT_ONCE, NAMES_MAX, PACKED_MAX, Remote};
use crate::sync::squeeze;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use pocker_store::sync::{Each, Named, Source, SyncError, Want};
use pocker_store::types::Digest;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Bytes read before they are given.
const READ_BYTES: u64 = 32 << 20;

impl Remote {
    /// What is known under the name, and where all of it lies; none where there is nothing.
    pub fn named(&mut self, name: &str) -> Result<Option<Named>, SyncError> {
        if !self.is_ours()? {
            return Err(
                SyncError::new(format!("{} has no pockers", self.place)).hint(
                    "see that it is the right place; `pocker sync local URL NAME` puts one there",
                ),
            );
        }
        let Some(entry) = self.entry(name)? else {
            return Ok(None);
        };
        let path = self.path(&["names", name]);
        let named = entry.named.named().map_err(|e| self.damaged(&path, e))?;
        let packs: Result<Vec<Digest>, _> = entry.packs.iter().map(|p| p.parse()).collect();
        let packs = packs.map_err(|_| self.damaged(&path, "a pack in it has no name"))?;
        self.learn(packs, true)?;
        Ok(Some(named))
    }

    /// The names that there are.
    pub fn names(&self) -> Result<Vec<String>, SyncError> {
        if !self.is_ours()? {
            return Ok(Vec::new());
        }
        let mut all = self.list("names", NAMES_MAX, |name| Some(name.to_owned()))?;
        self.bounded("pockers", all.len(), NAMES_MAX)?;
        all.sort();
        Ok(all)
    }

    fn spans(&self, spans: &[Span]) -> Result<Vec<Bytes>, SyncError> {
        let get = |span: Span| {
            let path = self.by_digest("packs", &self.places.read().pack(span.pack));
            let store = self.store.clone();
            async move { store.get_range(&path, span.from..span.to).await }
        };
        let gets = futures_util::stream::iter(spans.to_vec())
            .map(get)
            .buffered(AT_ONCE);
        let got = self.wait(gets.try_collect());
        got.map_err(self.failed("read a pack"))
    }

    pub(super) fn give_packed(
        &self,
        wants: &[(Want, Place)],
        each: Each<'_>,
    ) -> Result<(), SyncError> {
        // Bounded before it is believed.
        for (want, place) in wants {
            if place.plain > want.limit() || place.len > place.plain {
                let path = self.by_digest("packs", &self.places.read().pack(place.pack));
                return Err(
                    self.damaged(&path, "something in it is larger than its directory says")
                );
            }
        }
        let spans = spans(wants.iter().map(|(_, place)| *place));
        let got = self.spans(&spans)?;
        for (want, place) in wants {
            let holds = |s: &Span| {
                s.pack == place.pack && s.from <= place.at && place.at + place.len <= s.to
            };
            let bytes = match spans.iter().position(holds) {
                Some(at) => {
                    let from = (place.at - spans[at].from) as usize;
                    got[at].get(from..from + place.len as usize)
                }
                None => (place.len == 0).then_some(&[][..]),
            };
            let path = self.by_digest("packs", &self.places.read().pack(place.pack));
            let stored = bytes.ok_or_else(|| self.damaged(&path, "it is cut short"))?;
            let plain = squeeze::plain(stored, place.plain as usize);
            let plain = plain.map_err(|e| self.damaged(&path, e))?;
            each(want, &mut plain.as_deref().unwrap_or(stored))?;
        }
        Ok(())
    }

    /// When reading so many bytes has taken too long.
    fn until(&self, bytes: u64) -> Option<Instant> {
        let slowest = Duration::from_secs(bytes / self.bounds.slowest);
        Some(Instant::now() + self.deadline? + slowest)
    }

    pub(super) fn give_large(&self, want: &Want, each: Each<'_>) -> Result<(), SyncError> {
        let path = self.by_digest("large", &want.digest);
        let got = self.wait(self.store.get(&path));
        let got = got.map_err(self.failed(&format!("read {path}")))?;
        let mut bytes = StreamRead {
            remote: self,
            stream: got.into_stream(),
            until: self.until(want.limit()),
            current: Bytes::new(),
        };
        each(want, &mut bytes)
    }
}

impl Source for Remote {
    fn fetch(&mut self, wants: &[Want], each: Each<'_>) -> Result<(), SyncError> {
        let mut packed = Vec::new();
        let mut bytes = 0;
        for want in wants {
            if want.blob.is_some_and(|size| size > PACKED_MAX) {
                self.give_large(want, each)?;
                continue;
            }
            let thing = (want.digest, want.blob.is_some());
            let place = self.places.read().find(&thing);
            let place = place.ok_or_else(|| {
                SyncError::new(format!("{} has lost {}", self.place, want.digest))
                    .hint("sync the pocker again from a store that has it, to another prefix")
            })?;
            packed.push((*want, place));
            bytes += place.len;
            if bytes >= READ_BYTES {
                self.give_packed(&std::mem::take(&mut packed), each)?;
                bytes = 0;
            }
        }
        self.give_packed(&packed, each)
    }
}

struct StreamRead<'a> {
    remote: &'a Remote,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    /// A reader holds a thread of a server's: it is given back, however little comes at a time.
    until: Option<Instant>,
    current: Bytes,
}

impl Read for StreamRead<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.until.is_some_and(|until| Instant::now() > until) {
                return Err(io::Error::other(Said::too_slow()));
            }
            match self.remote.wait(self.stream.try_next()) {
                Ok(None) => return Ok(0),
                Ok(Some(chunk)) => self.current = chunk,
                Err(e) => return Err(io::Error::other(Said::of(&e))),
            }
        }
        let n = out.len().min(self.current.len());
        out[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}
