//! Makes one bounded line of whatever a plugin or wasmtime wrote.

/// Bytes of a log line and of any text shown to people.
pub(crate) const LINE: usize = 1024;

/// At most `limit` bytes of `text`, without control characters: line ends become ` | `, other ones `?`.
pub(crate) fn line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    let mut plain = [0; 4];
    for c in text.trim().chars() {
        let shown = match c {
            '\n' => " | ",
            '\t' => " ",
            '\r' => "",
            // Also what reorders or hides text on a terminal.
            c if c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') => "?",
            c => c.encode_utf8(&mut plain),
        };
        if line.len() + shown.len() > limit.saturating_sub(3) {
            line.push_str("...");
            break;
        }
        line.push_str(shown);
    }
    line
}

/// wasmtime's error with its causes, as one line.
pub(crate) fn error_line(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    line(&causes.join(": "), LINE)
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(line("a\nb\tc\u{1b}[31m\u{202e}\r\n", 100), "a | b c?[31m?");
        assert_eq!(line(&"x".repeat(5000), 64).len(), 64);
        let cut = line(&"é".repeat(100), 20);
        assert!(cut.len() <= 20 && cut.ends_with("..."));
    }
}
