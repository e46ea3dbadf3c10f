//! Classes of characters in a pattern.

use super::{HORIZONTAL, Translation, VERTICAL};

impl Translation {
    /// A class; each of its characters becomes the bytes that it is made of.
    pub(super) fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.take("^") {
            self.needs_bytes = true;
            self.out.push('^');
        }
        let (mut is_first, mut before): (bool, Option<u8>) = (true, None);
        loop {
            let c = self.next().ok_or("a class has no end")?;
            match c {
                ']' if !is_first => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.peek() == Some(':') && self.posix() => before = None,
                '[' if matches!(self.peek(), Some('.' | '=')) => {
                    return Err("a collating element in a class".to_owned());
                }
                '-' if before.is_some() && self.peek().is_some_and(|c| c != ']') => {
                    let first = before.take().unwrap_or_default();
                    let c = self.next().unwrap_or_default();
                    let Some(bytes) = self.member(c)? else { return Err("a range to a class".to_owned()) };
                    let (last, rest) = bytes.split_first().ok_or("a range without an end")?;
                    if *last < first {
                        return Err("a range that ends before it begins".to_owned());
                    }
                    self.out.push('-');
                    self.members(std::slice::from_ref(last));
                    self.members(rest);
                }
                c => match self.member(c)? {
                    Some(bytes) => {
                        self.members(&bytes);
                        before = bytes.last().copied();
                    }
                    None => before = None,
                },
            }
            is_first = false;
        }
    }

    /// `[:alpha:]`, if it is complete.
    fn posix(&mut self) -> bool {
        let rest: String = self.chars[self.at..].iter().take(12).collect();
        let Some(end) = rest.find(":]") else { return false };
        let name = rest[1..end].trim_start_matches('^');
        let is_name = name.len() > 2 && name.bytes().all(|byte| byte.is_ascii_lowercase());
        if is_name {
            self.needs_bytes = true;
            self.out.push_str(&format!("[{}:]", &rest[..end]));
            self.at += rest[..end].chars().count() + 2;
        }
        is_name
    }

    /// The bytes of a character or an escape; `None` for a class of its own, which is written.
    fn member(&mut self, c: char) -> Result<Option<Vec<u8>>, String> {
        if c != '\\' {
            return Ok(Some(c.to_string().into_bytes()));
        }
        let c = self.next().ok_or("a class has no end")?;
        match c {
            'd' | 'w' | 's' | 'D' | 'W' | 'S' => {
                self.needs_bytes = true;
                self.out.extend(['\\', c]);
                Ok(None)
            }
            'h' | 'v' => {
                self.needs_bytes = true;
                self.out.push_str(if c == 'h' { HORIZONTAL } else { VERTICAL });
                Ok(None)
            }
            'b' => Ok(Some(vec![0x08])),
            _ => Ok(Some(self.code(c)?.map_or_else(|| c.to_string().into_bytes(), |byte| vec![byte]))),
        }
    }

    fn members(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if byte.is_ascii_alphanumeric() || b" _/.,:;@%=+!'\"<>".contains(byte) {
                self.out.push(char::from(*byte));
            } else {
                self.needs_bytes |= *byte >= 0x80;
                self.out.push_str(&format!("\\x{byte:02X}"));
            }
        }
    }
}
