//! One connection to one broker: requests out, answers in. Blocking, on the lane's thread.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::protocol::{self, FetchFrom, FetchOptions, Leader};
use super::wire::Malformed;

/// An answer larger than this is no answer to a fetch of ours (the largest `fetch.max.bytes` is below 2 GiB, and one batch may
/// go beyond it).
const LARGEST_ANSWER_BYTES: usize = i32::MAX as usize;
/// A buffer that had to grow beyond this is not kept.
pub(super) const KEPT_BYTES: usize = 64 * 1024 * 1024;
/// Connecting takes no longer on a network that works; librdkafka goes on reading meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(super) enum Broken {
    Io(io::Error),
    Malformed(Malformed),
    /// The broker is too old for the requests made here.
    TooOld,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Io(error) => write!(f, "{error}"),
            Broken::Malformed(why) => write!(f, "an answer could not be read: {why}"),
            Broken::TooOld => f.write_str("it is older than Kafka 3.1"),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Io(error)
    }
}

impl From<Malformed> for Broken {
    fn from(why: Malformed) -> Broken {
        Broken::Malformed(why)
    }
}

/// An open connection.
pub(super) struct Link {
    stream: TcpStream,
    client_id: String,
    correlation: i32,
    /// Of the latest answer; kept for the next one.
    answer: Vec<u8>,
}

impl Link {
    /// Connects; [`Link::agree`] comes next.
    pub(super) fn connect(
        host: &str,
        port: u16,
        client_id: &str,
        answer_timeout: Duration,
    ) -> Result<Link, Broken> {
        let link = Link {
            stream: connect(host, port)?,
            client_id: client_id.to_string(),
            correlation: 0,
            answer: Vec::new(),
        };
        link.stream.set_nodelay(true)?;
        link.stream.set_read_timeout(Some(answer_timeout))?;
        link.stream.set_write_timeout(Some(answer_timeout))?;
        Ok(link)
    }

    /// Finds out whether the broker understands the requests made here.
    pub(super) fn agree(&mut self) -> Result<(), Broken> {
        self.send(protocol::api_versions)?;
        let correlation = self.correlation;
        match protocol::understands_us(self.receive()?, correlation)? {
            true => Ok(()),
            false => Err(Broken::TooOld),
        }
    }

    /// A second handle, with which another thread ends whatever this one waits for.
    pub(super) fn handle(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    fn send(&mut self, request: impl FnOnce(i32, &str) -> Vec<u8>) -> Result<(), Broken> {
        self.correlation = self.correlation.wrapping_add(1);
        let request = request(self.correlation, &self.client_id);
        Ok(self.stream.write_all(&request)?)
    }

    fn receive(&mut self) -> Result<&[u8], Broken> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size))
            .ok()
            .filter(|&size| size <= LARGEST_ANSWER_BYTES)
            .ok_or(Malformed("it has no size"))?;
        // Grows as bytes come and not before, whatever the size says.
        self.answer.clear();
        let read = (&mut self.stream)
            .take(size as u64)
            .read_to_end(&mut self.answer)?;
        if read < size {
            return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(&self.answer)
    }

    /// Who leads the partitions of these topics.
    pub(super) fn leaders<'t>(
        &mut self,
        topics: impl ExactSizeIterator<Item = &'t str>,
    ) -> Result<Vec<Leader>, Broken> {
        self.send(|correlation, client_id| protocol::metadata(correlation, client_id, topics))?;
        let correlation = self.correlation;
        Ok(protocol::leaders(self.receive()?, correlation)?)
    }

    /// Asks for records; the answer is the next one.
    pub(super) fn ask(
        &mut self,
        options: &FetchOptions,
        max_bytes: i32,
        partitions: &[FetchFrom],
    ) -> Result<(), Broken> {
        self.send(|correlation, client_id| {
            protocol::fetch(correlation, client_id, options, max_bytes, partitions)
        })
    }

    /// Waits for the answer to [`Link::ask`]. The buffer is the caller's until it is given back with [`Link::keep`].
    pub(super) fn answer(&mut self) -> Result<(Vec<u8>, i32), Broken> {
        self.receive()?;
        Ok((std::mem::take(&mut self.answer), self.correlation))
    }

    /// Takes a buffer back, so that the next answer needs no new one.
    pub(super) fn keep(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BYTES {
            self.answer = buffer;
        }
    }
}

fn connect(host: &str, port: u16) -> Result<TcpStream, Broken> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(Broken::Io(last))
}
