//! The output of `iptables-save`.

use super::rules::{Chain, Condition, Effect, Hook, Match, Rule, Table, prefix, protocol};

/// Every chain, but those of the table `nat`, which drop nothing.
pub fn parse(text: &str, program: &'static str) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if table == "nat" {
            continue;
        } else if let Some(rest) = line.strip_prefix(':') {
            chains.extend(declared(rest, &table, program));
        } else if let Some(words) = line.strip_prefix("-A ").map(words) {
            let Some((name, words)) = words.split_first() else { continue };
            let table = Table::Iptables { program, name: table.clone() };
            if let Some(chain) = chains.iter_mut().find(|chain| chain.table == table && chain.name == *name) {
                chain.rules.push(rule(line, words));
            }
        }
    }
    chains
}

/// "FORWARD DROP [0:0]", "DOCKER-USER - [0:0]".
fn declared(rest: &str, table: &str, program: &'static str) -> Option<Chain> {
    let mut words = rest.split_whitespace();
    let (name, policy) = (words.next()?, words.next()?);
    let is_base = policy != "-";
    Some(Chain {
        table: Table::Iptables { program, name: table.to_owned() },
        name: name.to_owned(),
        hook: Hook::of(name).filter(|_| is_base),
        // enum nf_ip_hook_priorities
        priority: match table {
            "raw" => -300,
            "mangle" => -150,
            "security" => 50,
            _ => 0,
        },
        policy: if policy == "DROP" { Effect::Drop } else { Effect::Accept },
        rules: Vec::new(),
    })
}

/// At blanks, but not inside quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn rule(line: &str, words: &[String]) -> Rule {
    let mut rule = Rule { conditions: Vec::new(), effect: Effect::Nothing, name: line.to_owned() };
    let (mut is_negated, mut at) = (false, 0);
    while let Some(option) = words.get(at).map(String::as_str) {
        at += 1;
        if option == "!" {
            is_negated = true;
            continue;
        }
        let values: Vec<&str> =
            words[at..].iter().map(String::as_str).take_while(|word| !is_option(word)).collect();
        at += values.len();
        let value = values.first().copied().unwrap_or_default();
        match option {
            "-j" => {
                rule.effect = target(value, &words[at..]);
                // What follows belongs to the target.
                break;
            }
            "-g" => rule.effect = Effect::Goto(value.to_owned()),
            "-m" | "--comment" => {}
            option => rule.conditions.push(Condition { is_negated, of: of(option, value) }),
        }
        is_negated = false;
    }
    rule
}

fn is_option(word: &str) -> bool {
    word == "!" || word.starts_with('-')
}

fn target(name: &str, options: &[String]) -> Effect {
    match name {
        "ACCEPT" => Effect::Accept,
        "DROP" | "REJECT" => Effect::Drop,
        "RETURN" => Effect::Return,
        "NOTRACK" => Effect::Untrack,
        "CT" if options.iter().any(|word| word == "--notrack") => Effect::Untrack,
        "QUEUE" | "NFQUEUE" | "SYNPROXY" | "TARPIT" | "TPROXY" | "STEAL" | "DELUDE" => Effect::Unknown,
        // A chain, or a target that lets the next rule follow (iptables-extensions(8)), as a chain without rules does.
        name => Effect::Jump(name.to_owned()),
    }
}

fn of(option: &str, value: &str) -> Match {
    let all = |read: &dyn Fn(&str) -> Option<Match>| read(value).unwrap_or(Match::Unknown);
    match option {
        "-i" => Match::InputInterface(vec![pattern(value)]),
        "-o" => Match::OutputInterface(vec![pattern(value)]),
        "-s" => all(&|value| Some(Match::Source(vec![prefix(value)?]))),
        "-d" => all(&|value| Some(Match::Destination(vec![prefix(value)?]))),
        "-p" => all(&|value| Some(Match::Protocol(vec![protocol(value)?]))),
        "--dport" | "--dports" => {
            all(&|value| value.split(',').map(ports).collect::<Option<_>>().map(Match::DestinationPort))
        }
        "--ctstate" | "--state" => Match::State(value.split(',').map(str::to_ascii_lowercase).collect()),
        _ => Match::Unknown,
    }
}

fn pattern(name: &str) -> String {
    name.strip_suffix('+').map_or_else(|| name.to_owned(), |beginning| format!("{beginning}*"))
}

/// "80", "80:90", ":90", "80:".
fn ports(word: &str) -> Option<(u16, u16)> {
    let Some((first, last)) = word.split_once(':') else {
        let port = word.parse().ok()?;
        return Some((port, port));
    };
    let end = |word: &str, missing| if word.is_empty() { Some(missing) } else { word.parse().ok() };
    Some((end(first, 0)?, end(last, u16::MAX)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "# Generated by iptables-save v1.8.9 (nf_tables)\n\
*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DROP\nCOMMIT\n\
*raw\n:PREROUTING ACCEPT [1:2]\nCOMMIT\n\
*mangle\n:POSTROUTING ACCEPT [1:2]\n-A POSTROUTING -o  eth0\nCOMMIT\n\
*security\n:OUTPUT ACCEPT [1:2]\nCOMMIT\n\
*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:INPUT-own - [0:0]\n:OUTPUT - [0:0]\n\
-A INPUT -s 172.25.3.1/32 ! -d 10.0.0.0/8 -p ipencap -m comment --comment \"the -j DROP director\" -j ACCEPT\n\
-A INPUT -p tcp -m multiport --dports 80,443,8000:8099,:9,60000: -j INPUT-own\n\
-A FORWARD -m mark --mark 0x1 -g INPUT-own\n\
-A FORWARD -j CT --zone 1\n\
-A nowhere -j DROP\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j DROP\n-A POSTROUTING -j DROP\nCOMMIT\n";

    #[test]
    fn chains_have_their_hook_priority_and_policy() {
        let chains = parse(SAVED, "iptables");
        let found: Vec<_> =
            chains.iter().map(|chain| (chain.name.as_str(), chain.hook, chain.priority)).collect();
        assert_eq!(
            found,
            [
                ("PREROUTING", Some(Hook::Prerouting), -300),
                ("POSTROUTING", Some(Hook::Postrouting), -150),
                ("OUTPUT", Some(Hook::Output), 50),
                ("INPUT", Some(Hook::Input), 0),
                ("FORWARD", Some(Hook::Forward), 0),
                ("INPUT-own", None, 0),
                ("OUTPUT", None, 0),
                ("POSTROUTING", Some(Hook::Postrouting), 0),
            ]
        );
        assert_eq!((&chains[3].policy, &chains[4].policy), (&Effect::Drop, &Effect::Accept));
    }

    #[test]
    fn rules_have_conditions_and_a_target() {
        let chains = parse(SAVED, "iptables");
        let [director, ports] = &chains[3].rules[..] else { panic!("{:?}", chains[3].rules) };
        assert_eq!(
            director.conditions,
            [
                Condition::is(Match::Source(vec!["172.25.3.1/32".parse().unwrap()])),
                Condition { is_negated: true, of: Match::Destination(vec!["10.0.0.0/8".parse().unwrap()]) },
                Condition::is(Match::Protocol(vec![4])),
            ]
        );
        assert_eq!(director.effect, Effect::Accept);
        let ranges = vec![(80, 80), (443, 443), (8000, 8099), (0, 9), (60000, 65535)];
        assert_eq!(ports.conditions[1], Condition::is(Match::DestinationPort(ranges)));
        assert_eq!(ports.effect, Effect::Jump("INPUT-own".into()));
        let [marked, zone] = &chains[4].rules[..] else { panic!("{:?}", chains[4].rules) };
        assert_eq!(marked.conditions, [Condition::is(Match::Unknown)]);
        assert_eq!(
            (&marked.effect, &zone.effect),
            (&Effect::Goto("INPUT-own".into()), &Effect::Jump("CT".into()))
        );
        let mangled = &chains[1].rules;
        assert_eq!(mangled.len(), 1);
        assert_eq!((mangled[0].effect.clone(), chains[7].rules.len()), (Effect::Nothing, 2));
        assert_eq!(mangled[0].conditions, [Condition::is(Match::OutputInterface(vec!["eth0".into()]))]);
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed() {
        for (option, value) in
            [("-s", "host.example"), ("-p", "nonesuch"), ("--dport", "http"), ("--mark", "1")]
        {
            assert_eq!(of(option, value), Match::Unknown, "{option} {value}");
        }
        for name in ["QUEUE", "NFQUEUE", "SYNPROXY", "TARPIT", "TPROXY", "STEAL", "DELUDE"] {
            assert_eq!(target(name, &[]), Effect::Unknown, "{name}");
        }
        let options = ["--zone", "1", "--notrack"].map(str::to_owned);
        assert_eq!(target("CT", &options), Effect::Untrack);
        assert_eq!(of("--state", "NEW,INVALID"), Match::State(vec!["new".into(), "invalid".into()]));
        assert_eq!(target("NOTRACK", &[]), Effect::Untrack);
    }
}
