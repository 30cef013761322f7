//! Layers of an image as one stream: frames of a length and so many bytes; a length of zero ends a
//! layer, the end of the stream between two layers the image.

use std::io::{self, Read};

/// Most bytes of a frame.
const FRAME_MAX: usize = 256 << 10;
const LENGTH: usize = 4;

/// Gives the next layer's bytes, the lowest layer first.
pub type NextLayer<'a> = dyn FnMut() -> io::Result<Option<Box<dyn Read + 'a>>> + 'a;

/// Layers to a stream.
pub struct Framing<'a> {
    next: Box<NextLayer<'a>>,
    layer: Option<Box<dyn Read + 'a>>,
    /// A frame, of which so much was given out.
    ready: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<'a> Framing<'a> {
    pub fn new(next: Box<NextLayer<'a>>) -> Framing<'a> {
        Framing {
            next,
            layer: None,
            ready: Vec::new(),
            given: 0,
            ended: false,
        }
    }

    fn frame(&mut self) -> io::Result<()> {
        self.given = 0;
        self.ready.clear();
        if self.layer.is_none() {
            self.layer = (self.next)()?;
        }
        let Some(layer) = &mut self.layer else {
            self.ended = true;
            return Ok(());
        };
        self.ready.resize(LENGTH + FRAME_MAX, 0);
        let mut filled = 0;
        while filled < FRAME_MAX {
            match layer.read(&mut self.ready[LENGTH + filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            self.layer = None;
        }
        self.ready.truncate(LENGTH + filled);
        self.ready[..LENGTH].copy_from_slice(&(filled as u32).to_be_bytes());
        Ok(())
    }
}

impl Read for Framing<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() && !self.ended {
            self.frame()?;
        }
        let n = out.len().min(self.ready.len() - self.given);
        out[..n].copy_from_slice(&self.ready[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}

/// A stream to layers: reads one layer, to its end.
pub struct Frames<'a> {
    stream: &'a mut dyn Read,
    left: usize,
    inside: bool,
}

impl<'a> Frames<'a> {
    pub fn new(stream: &'a mut dyn Read) -> Frames<'a> {
        Frames {
            stream,
            left: 0,
            inside: false,
        }
    }

    /// Whether another layer follows the one that was read.
    pub fn next_layer(&mut self) -> io::Result<bool> {
        let mut length = [0; LENGTH];
        if self.stream.read(&mut length[..1])? == 0 {
            return Ok(false);
        }
        self.stream.read_exact(&mut length[1..])?;
        self.begin(length)?;
        Ok(true)
    }

    fn begin(&mut self, length: [u8; LENGTH]) -> io::Result<()> {
        self.left = u32::from_be_bytes(length) as usize;
        self.inside = self.left > 0;
        match self.left > FRAME_MAX {
            true => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame too long",
            )),
            false => Ok(()),
        }
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && self.inside {
            let mut length = [0; LENGTH];
            self.stream.read_exact(&mut length)?;
            self.begin(length)?;
        }
        let most = out.len().min(self.left);
        if most == 0 {
            return Ok(0);
        }
        let n = self.stream.read(&mut out[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_come_out_as_they_went_in_and_a_cut_is_seen() {
        let layers: [Vec<u8>; 4] = [
            vec![1; 10],
            Vec::new(),
            vec![2; FRAME_MAX],
            vec![3; 3 * FRAME_MAX + 7],
        ];
        let mut left = layers.iter();
        let next = || Ok(left.next().map(|l| Box::new(&l[..]) as Box<dyn Read>));
        let mut bytes = Vec::new();
        Framing::new(Box::new(next))
            .read_to_end(&mut bytes)
            .expect("framed");
        let read = |mut stream: &[u8]| -> io::Result<Vec<Vec<u8>>> {
            let mut frames = Frames::new(&mut stream);
            let mut found = Vec::new();
            while frames.next_layer()? {
                let mut layer = Vec::new();
                frames.read_to_end(&mut layer)?;
                found.push(layer);
            }
            Ok(found)
        };
        assert_eq!(read(&bytes).expect("read"), layers);
        for cut in [3, 12, 16, bytes.len() - 1, bytes.len() - 5] {
            assert!(read(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(read(&[0xff; 64]).is_err());
    }
}
