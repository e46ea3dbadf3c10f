//! `lvs-tund explain`: shows what happens to a packet, why, and which packets would be sent. It runs the code
//! that forwards, and state carries over from packet to packet. It changes nothing on the host and needs no
//! privilege.

mod director_packet;
mod realserver_packet;

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, Format, Stdout, print, read};
use crate::config::Source;
use crate::datapath::pcap::{Reader, Writer};
use crate::time::Moment;

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Explain packets as the director reads them from its TUN device
    Director(DirectorQuestion),
    /// Explain encapsulated packets as they arrive at a real server
    Realserver(Question),
}

#[derive(Debug, Args)]
struct Question {
    /// The daemon's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Whole IP packets in hexadecimal, processed in this order, 1 ms apart
    #[arg(long, value_name = "HEX", num_args = 1.., required_unless_present = "pcap", conflicts_with = "pcap")]
    packet: Vec<String>,
    /// Packets of a capture file, at the times recorded in it
    #[arg(long, value_name = "IN")]
    pcap: Option<PathBuf>,
    /// Write the packets that would be sent to a capture file
    #[arg(long, value_name = "OUT")]
    write: Option<PathBuf>,
    /// Format of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
struct DirectorQuestion {
    #[command(flatten)]
    question: Question,
    /// An address of the director's host, such as a VIP that is one, or a real server's address; repeat it for more
    #[arg(long, value_name = "ADDRESS")]
    host_address: Vec<Ipv4Addr>,
}

/// What happened to one packet; one line of JSON.
#[derive(Debug, Serialize)]
struct Explanation {
    index: usize,
    verdict: &'static str,
    reason: Option<&'static str>,
    virtual_service: Option<String>,
    real_server: Option<String>,
    packets: Vec<String>,
    /// The journey, step by step, for people.
    #[serde(skip)]
    steps: Vec<String>,
}

/// One of the two roles, ready to explain packets.
trait Explain {
    fn explain(&mut self, index: usize, packet: &[u8], now: Moment) -> (Explanation, Vec<Vec<u8>>);

    /// What happens, after the last packet, to packets that are still held.
    fn late(&mut self) -> Option<String> {
        None
    }
}

pub(super) fn run(arguments: &ExplainArguments) -> Result<(), Failure> {
    match &arguments.role {
        Role::Director(DirectorQuestion { question, host_address }) => {
            let role =
                with_source(&question.config, |source| director_packet::Director::new(source, host_address))?;
            answer(question, role)
        }
        Role::Realserver(question) => {
            let role = with_source(&question.config, realserver_packet::Realserver::new)?;
            answer(question, role)
        }
    }
}

fn with_source<T>(path: &Path, make: impl FnOnce(&Source) -> Result<T, Failure>) -> Result<T, Failure> {
    let (name, text) = (path.display().to_string(), read(path)?);
    make(&Source { name: &name, text: &text })
}

fn answer(question: &Question, mut role: impl Explain) -> Result<(), Failure> {
    let mut reader = Stdout::Open;
    let mut writer = question.write.as_deref().map(create).transpose()?;
    let mut packets = Packets::open(question)?;
    for index in 0.. {
        let Some((packet, now)) = packets.next()? else { break };
        let (explanation, leaving) = role.explain(index, &packet, now);
        if let Some((path, writer)) = &mut writer {
            writer.moment = now;
            for packet in &leaving {
                writer.write_packet(packet).map_err(|error| cannot_write(path, &error))?;
            }
        }
        let text = match question.format {
            Format::Json => serde_json::to_string(&explanation).unwrap_or_default(),
            Format::Text => explanation.text(&packet),
        };
        if reader == Stdout::Open {
            reader = print(&format!("{text}\n"))?;
        }
        if reader == Stdout::Closed && writer.is_none() {
            return Ok(());
        }
    }
    if let Some(late) = role.late().filter(|_| question.format == Format::Text) {
        print(&late)?;
    }
    match writer {
        Some((path, writer)) => writer.finish().map_err(|error| cannot_write(&path, &error)),
        None => Ok(()),
    }
}

impl Explanation {
    fn text(&self, packet: &[u8]) -> String {
        let mut text = format!("packet {}, {} bytes\n", self.index, packet.len());
        for step in &self.steps {
            text.push_str(&format!("  {step}\n"));
        }
        let reason = self.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        text.push_str(&format!("  => {}{reason}\n", self.verdict));
        for packet in &self.packets {
            text.push_str(&format!("     {packet}\n"));
        }
        text
    }
}

type PcapWriter = Writer<BufWriter<File>>;

fn create(path: &Path) -> Result<(PathBuf, PcapWriter), Failure> {
    let file = File::create(path).map_err(|error| cannot_write(path, &error))?;
    let writer = Writer::new(BufWriter::new(file)).map_err(|error| cannot_write(path, &error))?;
    Ok((path.to_owned(), writer))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: cannot be written: {error}", path.display()))
}

/// The source of the packets.
enum Packets<'a> {
    Hex { words: std::slice::Iter<'a, String>, now: Moment },
    Pcap { path: &'a Path, reader: Box<Reader<BufReader<File>>> },
}

impl<'a> Packets<'a> {
    fn open(question: &'a Question) -> Result<Packets<'a>, Failure> {
        let Some(path) = question.pcap.as_deref() else {
            return Ok(Packets::Hex { words: question.packet.iter(), now: Moment::ZERO });
        };
        let refused = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(refused)?;
        let reader = Box::new(Reader::new(BufReader::new(file)).map_err(refused)?);
        Ok(Packets::Pcap { path, reader })
    }

    fn next(&mut self) -> Result<Option<(Vec<u8>, Moment)>, Failure> {
        match self {
            Packets::Hex { words, now } => {
                let Some(word) = words.next() else { return Ok(None) };
                *now = now.after(std::time::Duration::from_millis(1));
                Ok(Some((bytes(word)?, *now)))
            }
            Packets::Pcap { path, reader } => {
                let packet = reader.next_packet();
                let packet =
                    packet.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
                Ok(packet.map(|packet| (packet, reader.moment)))
            }
        }
    }
}

/// Hexadecimal digits; blanks and colons between them are allowed.
fn bytes(word: &str) -> Result<Vec<u8>, Failure> {
    let digits: Vec<char> = word.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let byte = |pair: &[char]| u8::try_from(pair[0].to_digit(16)? << 4 | pair.get(1)?.to_digit(16)?).ok();
    digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>().ok_or_else(|| {
        let shown: String = word.chars().take(40).collect();
        Failure::Refused(format!("--packet {shown}: expected an even number of hexadecimal digits"))
    })
}

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
