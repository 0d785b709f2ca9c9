use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A registry on loopback that answers as it is told, until it holds a transfer: from then on it neither reads nor writes.
#[derive(Debug)]
pub struct StallingRegistry {
    /// `127.0.0.1:PORT`
    pub address: String,
    stalled: Receiver<()>,
}

/// What is said to a request, headers and all.
#[derive(Debug)]
pub enum Answer {
    /// This, and the next request may come.
    Whole(Vec<u8>),
    /// This, and then nothing more.
    Stall(Vec<u8>),
}

impl Answer {
    /// An answer with headers of its own, each with its line break.
    pub fn new(status: &str, headers: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Answer::Whole([head.as_bytes(), body].concat())
    }
}

impl StallingRegistry {
    /// Starts one; `answer` gets the method and path of each request, e.g. `GET /v2/`.
    pub fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound").to_string();
        let (stall, stalled) = channel();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, stall) = (answer.clone(), stall.clone());
                std::thread::spawn(move || converse(&stream, &*answer, &stall));
            }
        });
        StallingRegistry { address, stalled }
    }

    /// Waits until a transfer is held, a minute at most.
    #[track_caller]
    pub fn wait_until_stalled(&self) {
        self.stalled.recv_timeout(Duration::from_secs(60)).expect("a transfer begins within a minute");
    }
}

/// Serves one connection, until its end or until it is held; a held one ends with the test.
fn converse(mut stream: &TcpStream, answer: &dyn Fn(&str) -> Answer, stall: &Sender<()>) {
    let mut lines = BufReader::new(stream);
    // A client that tries TLS first learns that this is plain HTTP.
    if lines.fill_buf().is_ok_and(|begin| begin.first() == Some(&0x16)) {
        let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        return;
    }
    while let Some(request) = request(&mut lines) {
        match answer(&request) {
            Answer::Whole(bytes) => {
                let _ = stream.write_all(&bytes);
            }
            Answer::Stall(bytes) => {
                let _ = stream.write_all(&bytes);
                let _ = stall.send(());
                loop {
                    std::thread::park();
                }
            }
        }
    }
}

/// Method and path of the next request, whose headers are read to their end.
fn request(lines: &mut impl BufRead) -> Option<String> {
    let mut first = String::new();
    lines.read_line(&mut first).ok().filter(|n| *n > 0)?;
    let mut header = String::new();
    while lines.read_line(&mut header).ok()? > 2 {
        header.clear();
    }
    Some(first.rsplit_once(' ')?.0.to_owned())
}
