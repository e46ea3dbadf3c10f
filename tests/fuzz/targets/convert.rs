//! The bytes of a file of keepalived, ldirectord or ipvsadm: the result is TOML, lists what it lost, and is not endless.

use lvs_tund::config::Source;
use lvs_tund::config::toml::Block;
use lvs_tund::control::ipvsadm::names::Numeric;
use lvs_tund::convert::{Input, Kind, convert, recognize};

/// A repetition makes up to 200,000 lines of one.
const LENGTH_MAX: usize = 256 << 20;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let include = |_: &str, pattern: &str| match pattern.len() {
        0..8 => Ok(vec![(pattern.to_owned(), "delay_loop 3\n".to_owned())]),
        8..16 => Ok(Vec::new()),
        _ => Err("cannot read".to_owned()),
    };
    for kind in [Kind::Keepalived, Kind::Ldirectord, Kind::Ipvsadm] {
        let input =
            Input { name: "file", text: &text, include: &include, names: &Numeric, config_id: "here" };
        let converted = convert(kind, &input);
        assert!(converted.toml.len() < LENGTH_MAX);
        let source = Source { name: "director.toml", text: &converted.toml };
        let block = Block::parse(&source);
        assert!(block.is_ok_and(|block| block.get("interface").is_some()), "{}", converted.toml);
        let comments = converted.toml.lines().filter(|line| line.starts_with("# not converted: ")).count();
        assert_eq!(comments, converted.losses.len());
        let _ = recognize(&text);
    }
}
