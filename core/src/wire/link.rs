//! One connection to one broker: requests out, answers in. Blocking, on a lane's thread; the two ways may be used by two threads.

use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::Malformed;
use super::cluster::{self, Cluster};

/// An answer larger than this is no answer to a fetch of ours (the largest `fetch.max.bytes` is below 2 GiB, and one batch may
/// go beyond it).
const LARGEST_ANSWER_BYTES: usize = i32::MAX as usize;
/// A buffer that had to grow beyond this is not kept.
pub(crate) const KEPT_BYTES: usize = 64 * 1024 * 1024;
/// Connecting takes no longer on a network that works; librdkafka goes on reading meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(crate) enum Broken {
    Io(io::Error),
    Malformed(Malformed),
    /// The broker is too old for the requests made here.
    TooOld,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Io(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    f.write_str("it does not answer in time")
                }
                io::ErrorKind::UnexpectedEof => f.write_str("it has closed the connection"),
                _ => write!(f, "{error}"),
            },
            Broken::Malformed(why) => write!(f, "an answer could not be read: {why}"),
            Broken::TooOld => f.write_str("it is too old for the requests made here"),
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
pub(crate) struct Link {
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
}

/// Its way out.
pub(crate) struct Outgoing {
    stream: TcpStream,
    client_id: String,
    correlation: i32,
}

/// Its way back. Answers come in the order of the requests.
pub(crate) struct Incoming {
    stream: TcpStream,
    answer_timeout: Duration,
    /// Of the latest answer; kept for the next one.
    answer: Vec<u8>,
}

impl Link {
    /// Connects; [`Link::agree`] comes next.
    pub(crate) fn connect(
        host: &str,
        port: u16,
        client_id: &str,
        answer_timeout: Duration,
    ) -> Result<Link, Broken> {
        let stream = connect(host, port)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(answer_timeout))?;
        stream.set_write_timeout(Some(answer_timeout))?;
        Ok(Link {
            incoming: Incoming {
                stream: stream.try_clone()?,
                answer_timeout,
                answer: Vec::new(),
            },
            outgoing: Outgoing {
                stream,
                client_id: client_id.to_string(),
                correlation: 0,
            },
        })
    }

    /// Asks for a send buffer of so many bytes; 0 for the system's own.
    pub(crate) fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        #[cfg(unix)]
        if bytes > 0 {
            rustix::net::sockopt::set_socket_send_buffer_size(&self.outgoing.stream, bytes)?;
        }
        let _ = bytes;
        Ok(())
    }

    /// Finds out whether the broker understands these requests, by kind and version.
    pub(crate) fn agree(&mut self, needed: &[(i16, i16)]) -> Result<(), Broken> {
        let correlation = self.outgoing.send(cluster::api_versions)?;
        match cluster::understands(self.incoming.receive()?, correlation, needed)? {
            true => Ok(()),
            false => Err(Broken::TooOld),
        }
    }

    /// A second handle, with which another thread ends whatever this one waits for.
    pub(crate) fn handle(&self) -> io::Result<TcpStream> {
        self.outgoing.stream.try_clone()
    }

    /// Who leads the partitions of these topics.
    pub(crate) fn cluster<'t>(
        &mut self,
        topics: impl ExactSizeIterator<Item = &'t str>,
    ) -> Result<Cluster, Broken> {
        let correlation = self
            .outgoing
            .send(|correlation, client_id| cluster::metadata(correlation, client_id, topics))?;
        Ok(cluster::cluster(self.incoming.receive()?, correlation)?)
    }

    /// Waits for the answer to the request sent last. The buffer is the caller's until it is given back with [`Link::keep`].
    pub(crate) fn answer(&mut self) -> Result<(Vec<u8>, i32), Broken> {
        self.incoming.receive()?;
        Ok((
            std::mem::take(&mut self.incoming.answer),
            self.outgoing.correlation,
        ))
    }

    /// Takes a buffer back, so that the next answer needs no new one.
    pub(crate) fn keep(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BYTES {
            self.incoming.answer = buffer;
        }
    }
}

impl Outgoing {
    /// Sends a request, made from its number and the client's name; the number.
    pub(crate) fn send(
        &mut self,
        request: impl FnOnce(i32, &str) -> Vec<u8>,
    ) -> Result<i32, Broken> {
        self.correlation = self.correlation.wrapping_add(1);
        let request = request(self.correlation, &self.client_id);
        self.stream.write_all(&request)?;
        Ok(self.correlation)
    }

    /// The number of the next request, whose parts are sent with [`Outgoing::write`], and the client's name.
    pub(crate) fn next(&mut self) -> (i32, &str) {
        self.correlation = self.correlation.wrapping_add(1);
        (self.correlation, &self.client_id)
    }

    /// Sends all of these, one behind the other.
    pub(crate) fn write(&mut self, mut parts: &mut [IoSlice<'_>]) -> Result<(), Broken> {
        while !parts.is_empty() {
            match self.stream.write_vectored(parts) {
                Ok(0) => return Err(Broken::Io(io::ErrorKind::WriteZero.into())),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Outgoing {
    /// Whether [`Outgoing::try_write`] ever writes.
    pub(crate) const CAN_TRY: bool = cfg!(unix);

    /// Sends as much of these as goes without waiting; how many bytes.
    #[cfg(unix)]
    pub(crate) fn try_write(&self, parts: &[IoSlice<'_>]) -> Result<usize, Broken> {
        use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
        /// The system takes no more of them at once.
        const MOST_PARTS: usize = 1024;
        let parts = &parts[..parts.len().min(MOST_PARTS)];
        let mut nothing = SendAncillaryBuffer::default();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(&self.stream, parts, &mut nothing, flags) {
            Ok(written) => Ok(written),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(Broken::Io(error.into())),
        }
    }

    /// Nothing goes without waiting: whether a connection waits is the same for all who use it here.
    #[cfg(not(unix))]
    pub(crate) fn try_write(&self, _parts: &[IoSlice<'_>]) -> Result<usize, Broken> {
        Ok(0)
    }
}

impl Incoming {
    /// Waits for the next answer. `patience` is asked again and again, after the time that it gave, while nothing has come: how
    /// much longer; none when it is over.
    pub(crate) fn receive_patiently(
        &mut self,
        patience: impl Fn() -> Option<Duration>,
    ) -> Result<&[u8], Broken> {
        let mut size = [0; 4];
        let mut got = 0;
        let mut is_changed = false;
        while got < size.len() {
            match self.stream.read(&mut size[got..]) {
                Ok(0) => return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => got += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if got == 0
                        && matches!(
                            error.kind(),
                            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                        ) =>
                {
                    let Some(longer) = patience() else {
                        return Err(error.into());
                    };
                    self.stream.set_read_timeout(Some(longer))?;
                    is_changed = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if is_changed {
            self.stream.set_read_timeout(Some(self.answer_timeout))?;
        }
        self.rest(size)
    }

    /// Waits for the next answer.
    pub(crate) fn receive(&mut self) -> Result<&[u8], Broken> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        self.rest(size)
    }

    fn rest(&mut self, size: [u8; 4]) -> Result<&[u8], Broken> {
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
