//! The keywords of a block. Each has a number of arguments, so that no word is lost without a remark.

use std::collections::HashMap;

use super::tree::Statement;
use super::value::Wrong;
use crate::convert::draft::Block;

/// As many arguments as there are.
pub(super) const ALL: usize = usize::MAX - 1;

/// What a block sets.
pub(super) trait Keywords<'a> {
    /// Reads a statement; the number of its arguments. Remarks that are not about an error go into `block`.
    ///
    /// # Errors
    /// Why it is not converted; then nothing has changed.
    fn set(&mut self, statement: &'a Statement, block: &mut Block) -> Result<usize, Wrong>;
}

/// Reads the statements of a block. The last of two lines that set the same counts, unless it is wrong.
pub(super) fn read<'a>(keywords: &mut impl Keywords<'a>, statements: &'a [Statement], block: &mut Block) {
    let mut seen: HashMap<&str, &Statement> = HashMap::new();
    for statement in statements {
        let taken = match keywords.set(statement, block) {
            Ok(taken) => taken,
            Err(reason) => {
                block.lose(statement.lost(reason));
                continue;
            }
        };
        surplus(statement, taken, block);
        let keyword = canonical(statement.keyword());
        let has_block = is_checker(keyword) || ["real_server", "url", "host"].contains(&keyword);
        if statement.block.is_some() && !has_block {
            block.lose(statement.lost("it takes no block; keepalived loses what follows"));
        }
        if has_block || REPEATED.contains(&keyword) {
            continue;
        }
        if let Some(earlier) = seen.insert(keyword, statement) {
            let line = statement.place.line;
            block.lose(earlier.remark(format!("line {line} replaces it")));
        }
    }
}

/// Keywords without a block of which each line counts.
const REPEATED: [&str; 2] = ["regex_options", "lvs_timeouts"];

/// Reports words behind the last argument.
pub(super) fn surplus(statement: &Statement, taken: usize, block: &mut Block) {
    if let Some(words) = statement.words.get(taken + 1..) {
        surplus_words(statement, words, block);
    }
}

/// Reports words that keepalived ignores.
pub(super) fn surplus_words(statement: &Statement, words: &[String], block: &mut Block) {
    let text = words.join(" ");
    match words.len() {
        0 => {}
        1 => block.lose(statement.remark(format!("`{text}` is one word too many; keepalived ignores it"))),
        _ => block.lose(statement.remark(format!("`{text}` are words too many; keepalived ignores them"))),
    }
}

/// The kinds of checkers.
pub(super) fn is_checker(keyword: &str) -> bool {
    matches!(
        keyword,
        "TCP_CHECK"
            | "HTTP_GET"
            | "SSL_GET"
            | "SMTP_CHECK"
            | "DNS_CHECK"
            | "UDP_CHECK"
            | "PING_CHECK"
            | "MISC_CHECK"
            | "FILE_CHECK"
            | "BFD_CHECK"
    )
}

/// The present word for one of old files.
pub(super) fn canonical(keyword: &str) -> &str {
    match keyword {
        "lb_algo" => "lvs_sched",
        "lb_kind" => "lvs_method",
        "nb_get_retry" => "retry",
        _ => keyword,
    }
}
