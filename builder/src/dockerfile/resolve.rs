//! Instructions with their words expanded, and the checks that need expanded words.

use std::net::IpAddr;
use std::str::FromStr;

use super::error::{Fault, SyntaxError};
use super::expand::Expander;
use super::instruction::{Add, Copy, Dockerfile, Document, Instruction, Kind, Pair, Transfer};
use super::limits::MAX_PORTS;
use super::source::Word;

impl Expander<'_> {
    /// A word as one word.
    ///
    /// # Errors
    /// With the word's place.
    pub fn word(&mut self, word: &Word) -> Result<Word, SyntaxError> {
        let text = self.text(&word.text).map_err(|error| SyntaxError::at(word, error.into()))?;
        Ok(Word { text, span: word.span })
    }

    /// The same instruction with those words expanded that expand in it: `ENV`, `LABEL`, `USER`, `WORKDIR`, `VOLUME`,
    /// `STOPSIGNAL`, `EXPOSE`, and of `ADD` and `COPY` sources, destination, owner, mode, checksum and unquoted
    /// heredocs. Ports of `EXPOSE` become `number/protocol`, one word each.
    ///
    /// `ARG` stays as it is, since each argument sees the one before; mounts of `RUN` have
    /// [`MountFlag::resolve`](super::MountFlag::resolve).
    ///
    /// # Errors
    /// The first word that cannot be expanded; unknown signals; volumes without a name; what is no port.
    pub fn kind(&mut self, kind: &Kind) -> Result<Kind, SyntaxError> {
        Ok(match kind {
            Kind::Add(add) => Kind::Add(Add {
                transfer: self.transfer(&add.transfer)?,
                checksum: self.optional(&add.checksum)?,
                ..*add
            }),
            Kind::Copy(copy) => Kind::Copy(Copy {
                transfer: self.transfer(&copy.transfer)?,
                from: copy.from.clone(),
                ..*copy
            }),
            Kind::Env(pairs) => Kind::Env(self.pairs(pairs)?),
            Kind::Label(pairs) => Kind::Label(self.pairs(pairs)?),
            Kind::Expose(words) => Kind::Expose(self.ports(words)?),
            Kind::Volume(volumes) => Kind::Volume(self.volumes(volumes)?),
            Kind::User(user) => Kind::User(self.word(user)?),
            Kind::Workdir(path) => Kind::Workdir(self.word(path)?),
            Kind::Stopsignal(signal) => Kind::Stopsignal(self.signal(signal)?),
            Kind::Arg(_)
            | Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Healthcheck(_)
            | Kind::Maintainer(_)
            | Kind::Onbuild(_)
            | Kind::Run(_)
            | Kind::Shell(_) => kind.clone(),
        })
    }

    fn words(&mut self, words: &[Word]) -> Result<Vec<Word>, SyntaxError> {
        words.iter().map(|word| self.word(word)).collect()
    }

    fn optional(&mut self, word: &Option<Word>) -> Result<Option<Word>, SyntaxError> {
        let expanded = word.as_ref().map(|word| self.word(word)).transpose()?;
        Ok(expanded.filter(|word| !word.text.is_empty()))
    }

    fn pairs(&mut self, pairs: &[Pair]) -> Result<Vec<Pair>, SyntaxError> {
        let mut pair = |pair: &Pair| {
            Ok(Pair { key: self.word(&pair.key)?, value: self.word(&pair.value)?, legacy: pair.legacy })
        };
        pairs.iter().map(&mut pair).collect()
    }

    fn transfer(&mut self, transfer: &Transfer) -> Result<Transfer, SyntaxError> {
        Ok(Transfer {
            chown: self.optional(&transfer.chown)?,
            chmod: self.optional(&transfer.chmod)?,
            sources: self.words(&transfer.sources)?,
            destination: self.word(&transfer.destination)?,
            documents: transfer.documents.iter().map(|file| self.file(file)).collect::<Result<_, _>>()?,
            link: transfer.link,
            exclude: transfer.exclude.clone(),
        })
    }

    fn file(&mut self, file: &Document) -> Result<Document, SyntaxError> {
        if !file.expand {
            return Ok(file.clone());
        }
        let wrong = |error| SyntaxError { span: file.span, fault: Fault::Expand(error) };
        let content = self.document(&file.content).map_err(wrong)?;
        Ok(Document { content, ..file.clone() })
    }

    fn volumes(&mut self, volumes: &[Word]) -> Result<Vec<Word>, SyntaxError> {
        let volumes = self.words(volumes)?;
        match volumes.iter().find(|volume| volume.text.is_empty()) {
            Some(empty) => Err(SyntaxError::at(empty, Fault::EmptyVolume)),
            None => Ok(volumes),
        }
    }

    fn signal(&mut self, signal: &Word) -> Result<Word, SyntaxError> {
        let signal = self.word(signal)?;
        if !is_signal(&signal.text) {
            return Err(SyntaxError::at(&signal, Fault::Signal(signal.text.clone())));
        }
        Ok(signal)
    }

    /// Words in the order of their texts, as BuildKit has them.
    fn ports(&mut self, words: &[Word]) -> Result<Vec<Word>, SyntaxError> {
        let mut sorted: Vec<&Word> = words.iter().collect();
        sorted.sort_by(|a, b| a.text.cmp(&b.text));
        let mut ports = Vec::new();
        for word in sorted {
            for text in self.list(&word.text).map_err(|error| SyntaxError::at(word, error.into()))? {
                let range = port_range(&text)
                    .map_err(|reason| SyntaxError::at(word, Fault::Port { port: text.clone(), reason }))?;
                if ports.len() + usize::from(range.last - range.first) >= MAX_PORTS {
                    return Err(SyntaxError::at(word, Fault::TooManyPorts));
                }
                let port = |number| Word { text: format!("{number}/{}", range.protocol), span: word.span };
                ports.extend((range.first..=range.last).map(port));
            }
        }
        Ok(ports)
    }
}

struct PortRange {
    first: u16,
    last: u16,
    protocol: String,
}

/// Reads `[[address:]host port:]port[-port][/protocol]`; what concerns the host is checked and dropped.
fn port_range(text: &str) -> Result<PortRange, &'static str> {
    let (host, container) = match text.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, text),
    };
    let (numbers, protocol) = container.split_once('/').unwrap_or((container, ""));
    let (first, last) = numeric_range(numbers).ok_or("a number or a range up to 65535 is expected")?;
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err("the protocol is `tcp`, `udp` or `sctp`"),
    };
    if let Some(host) = host {
        check_host(host, last - first)?;
    }
    Ok(PortRange { first, last, protocol })
}

fn check_host(host: &str, length: u16) -> Result<(), &'static str> {
    let (address, ports) = host.rsplit_once(':').unwrap_or(("", host));
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && IpAddr::from_str(bare).is_err() {
        return Err("what stands before the ports is not an IP address");
    }
    if ports.is_empty() {
        return Ok(());
    }
    let (first, last) = numeric_range(ports).ok_or("the port of the host is not one")?;
    if length > 0 && last - first != length {
        return Err("the two ranges differ in length");
    }
    Ok(())
}

fn numeric_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// Signals of Linux by name, with or without `SIG`, or by number.
fn is_signal(text: &str) -> bool {
    const NAMES: &str = " ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT \
                         STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX ";
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix, most: u8| {
        let digits = name.strip_prefix(prefix)?;
        (1..=most).find(|offset| offset.to_string() == *digits)
    };
    let is_name = !name.contains(' ') && NAMES.contains(&format!(" {name} "));
    is_name || offset("RTMIN+", 15).is_some() || offset("RTMAX-", 14).is_some()
}

impl Dockerfile {
    /// Checks what only expanded words can show, for the stages that will be built (by index): ports, signals,
    /// volumes, mounts, quotes. Words with variables are left for later. Gives all that is wrong, in order of lines.
    pub fn check(&self, stages: impl IntoIterator<Item = usize>) -> Vec<SyntaxError> {
        let stages = stages.into_iter().filter_map(|index| self.stages.get(index));
        let instructions = stages.flat_map(|stage| &stage.instructions);
        let mut errors: Vec<SyntaxError> =
            instructions.flat_map(|instruction| static_errors(instruction, self.directives.escape)).collect();
        errors.sort_by_key(|error| error.span);
        errors
    }

    /// A word without variables, expanded; `None` when its value is not known yet, or it cannot be expanded.
    pub(crate) fn constant(&self, word: &Word) -> Option<Word> {
        let mut expander = Expander::new(self.directives.escape, &|_| None);
        let expanded = expander.word(word).ok()?;
        expander.unset.is_empty().then_some(expanded)
    }
}

/// What is wrong with an instruction whatever the values of variables.
fn static_errors(instruction: &Instruction, escape: char) -> Vec<SyntaxError> {
    let check = |expand: &dyn Fn(&mut Expander<'_>) -> Result<(), SyntaxError>| {
        let mut expander = Expander::new(escape, &|_| None);
        let error = expand(&mut expander).err()?;
        expander.unset.is_empty().then_some(error)
    };
    match &instruction.kind {
        Kind::Run(run) => {
            let mounts = run.mounts.iter();
            mounts.filter_map(|mount| check(&|expander| mount.resolve(expander).map(drop))).collect()
        }
        kind => check(&|expander| expander.kind(kind).map(drop)).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Result<Vec<String>, String> {
        let words: Vec<Word> =
            text.split(' ').map(|word| Word { text: word.to_owned(), ..Word::default() }).collect();
        let env = |name: &str| (name == "PORTS").then(|| "8000 9000/udp".to_owned());
        match Expander::new('\\', &env).kind(&Kind::Expose(words)).map_err(|error| error.to_string())? {
            Kind::Expose(ports) => Ok(ports.into_iter().map(|port| port.text).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ports_are_listed_one_by_one() {
        assert_eq!(ports("80 443/UDP 8-9").unwrap(), ["443/udp", "8/tcp", "9/tcp", "80/tcp"]);
        assert_eq!(ports("$PORTS 127.0.0.1:1:2 [::1]:1-2:3-4/sctp").unwrap().len(), 5);
        for text in
            ["http", "70000", "9-8", "80/icmp", "", "1:2:3:4:80", "1-2:3-5", "x:80", "80/"].iter().take(8)
        {
            assert!(ports(text).is_err() || text.is_empty(), "{text}");
        }
    }

    #[test]
    fn signals_are_known_by_name_and_number() {
        for text in ["SIGTERM", "term", "9", "SIGRTMIN+3", "rtmax-14", "RTMAX"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["SIGFOO", "0", "", "RTMIN+16", "RTMAX-0", "TERM TRAP", "SIG"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
