//! What is written is read again, and what is changed on the way is seen.

use super::source::{self, Opened};
use super::write::{About, Made, Stager};
use crate::control::api::RunConfig;
use crate::control::layers::Frames;
use proptest::prelude::*;
use std::io::{self, Read, Write};

/// An image of one layer, as a tar of a layout.
fn image(layer: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut stager = Stager::new(dir.path()).expect("staged");
    stager.write_all(layer).expect("written");
    let run = RunConfig {
        command: "echo hello".to_owned(),
        ..RunConfig::default()
    };
    let history = [("FROM scratch", true), ("RUN echo hello", false)];
    let about = About {
        name: "web",
        tag: "v1",
        run: &run,
        history: &history,
    };
    let mut made = Made::new(vec![stager.finish().expect("staged")], &about).expect("made");
    let mut out = Vec::new();
    made.write_tar(&mut out).expect("written");
    out
}

/// The command, and the layers' bytes; none where the file is taken for a tree.
fn read(bytes: &[u8]) -> io::Result<Option<(String, Vec<Vec<u8>>)>> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    let Opened::Image(image) = source::open(file.path(), None)? else {
        return Ok(None);
    };
    let mut framing = image.framing();
    let mut frames = Frames::new(&mut framing);
    let mut layers = Vec::new();
    while frames.next_layer()? {
        let mut layer = Vec::new();
        frames.read_to_end(&mut layer)?;
        layers.push(layer);
    }
    let run = super::command::to_run(&image.config.config);
    Ok(Some((run.command, layers)))
}

fn layer() -> Vec<u8> {
    (0..9000u32)
        .map(|n| (n.wrapping_mul(n) >> 5) as u8)
        .collect()
}

#[test]
fn an_image_that_was_written_is_read_again() {
    let read = read(&image(&layer())).expect("read");
    assert_eq!(read, Some(("echo hello".to_owned(), vec![layer()])));
    assert_eq!(image(&layer()), image(&layer()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Nothing panics, and no change gives other bytes than those that were meant.
    #[test]
    fn a_changed_image_is_an_error_or_the_same(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = image(&layer());
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(Some((_, layers))) = read(&bytes) {
            prop_assert_eq!(layers, vec![layer()]);
        }
    }
}

/// Compressed, it can be read once only: an image is put aside, and what is none goes on as the tree that it is.
#[test]
fn a_stream_is_put_aside_as_far_as_it_may_be_an_image() {
    let packed = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).expect("written");
        out.finish().expect("finished")
    };
    let said = Some(("echo hello".to_owned(), vec![layer()]));
    assert_eq!(read(&packed(&image(&layer()))).expect("read"), said);
    // Only behind what is looked at first does it turn out to be a tree.
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["blobs/large", "etc/passwd", "oci-layout"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(90_000);
        let bytes = name.as_bytes().iter().cycle().take(90_000).copied();
        let bytes: Vec<u8> = bytes.collect();
        builder
            .append_data(&mut header, name, &bytes[..])
            .expect("added");
    }
    let bytes = builder.into_inner().expect("finished");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&packed(&bytes)).expect("written");
    let Ok(Opened::Tree(mut tree)) = source::open(file.path(), None) else {
        panic!("it is a tree");
    };
    let mut found = Vec::new();
    tree.read_to_end(&mut found).expect("read");
    assert!(found == bytes, "all of it, once");
    // Cut behind the archive's own end: the decoder says so.
    let whole = packed(&image(&layer()));
    assert!(read(&whole[..whole.len() - 4]).is_err());
}
