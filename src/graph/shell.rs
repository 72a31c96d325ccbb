//! Where commands begin in a shell string, and which are words at all.
//!
//! This is no parser of the language: it follows quoting, comments, here-documents, substitutions,
//! keywords and redirections just far enough to know where a command begins. A word with an expansion
//! in it has no literal text and is passed over. What it misses costs a declared tool, never a crash:
//! such a program is found on the step's narrow PATH or not at all.

/// A command: its words in order, `None` for those whose text is only known when the shell runs.
pub type Words = Vec<Option<String>>;

/// What was found in a shell string.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub commands: Vec<Words>,
    /// Literal targets of redirections.
    pub redirected: Vec<String>,
    /// Names of functions that the string defines.
    pub functions: Vec<String>,
}

/// Nobody writes more substitutions one in another.
const MAX_DEPTH: usize = 50;

pub fn scan(text: &str) -> Script {
    let mut scanner = Scanner {
        chars: text.chars().collect(),
        at: 0,
        script: Script::default(),
        heredocs: Vec::new(),
        in_backticks: false,
        depth: 0,
    };
    scanner.commands(None);
    scanner.script
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    script: Script,
    /// Delimiters of here-documents whose bodies begin at the next line.
    heredocs: Vec<(String, bool)>,
    /// Inside backticks the next one closes.
    in_backticks: bool,
    /// Substitutions around it.
    depth: usize,
}

/// What ended a word.
struct Word {
    literal: Option<String>,
    quoted: bool,
}

/// What the words of the command being read are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Command,
    /// `for x in …`, `case x`: words that are no command.
    Words,
    /// Patterns of a `case`, up to `)`.
    Pattern,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Reads commands up to `close` (of a substitution or subshell) or the end.
    fn commands(&mut self, close: Option<char>) {
        let mut words: Words = Vec::new();
        let mut mode = Mode::Command;
        let mut cases = 0usize;
        while let Some(c) = self.peek(0) {
            match c {
                ' ' | '\t' | '\r' => self.at += 1,
                '\\' if self.peek(1) == Some('\n') => self.at += 2,
                '#' => self.skip_line(),
                '\n' => {
                    self.at += 1;
                    self.skip_heredocs();
                    self.end_command(&mut words, &mut mode);
                }
                ';' | '&' | '|' => {
                    let ends_branch = c == ';' && self.peek(1) == Some(';');
                    while matches!(self.peek(0), Some(';' | '&' | '|')) {
                        self.at += 1;
                    }
                    self.end_command(&mut words, &mut mode);
                    if ends_branch && cases > 0 {
                        mode = Mode::Pattern;
                    }
                }
                // It ends what began inside of it too, as `$(` here: `a $(b`
                '`' if self.in_backticks => break,
                ')' if mode == Mode::Pattern => {
                    self.at += 1;
                    words.clear();
                    mode = Mode::Command;
                }
                ')' if close == Some(')') => break,
                '(' if words.len() == 1 && self.peek(1) == Some(')') => {
                    self.script.functions.extend(words.pop().flatten());
                    self.at += 2;
                }
                '(' | ')' => {
                    self.at += 1;
                    if mode != Mode::Pattern {
                        self.end_command(&mut words, &mut mode);
                    }
                }
                '<' | '>' => self.redirection(),
                _ => {
                    let word = self.word();
                    self.place(word, &mut words, &mut mode, &mut cases);
                }
            }
        }
        self.end_command(&mut words, &mut mode);
        if close.is_some() && self.peek(0) == close {
            self.at += 1;
        }
    }

    /// Puts a word where it belongs: a keyword changes the mode, another joins the command.
    fn place(&mut self, word: Word, words: &mut Words, mode: &mut Mode, cases: &mut usize) {
        let keyword = if word.quoted { "" } else { word.literal.as_deref().unwrap_or("") };
        if *mode == Mode::Pattern {
            if keyword == "esac" {
                *cases = cases.saturating_sub(1);
                *mode = Mode::Command;
            }
            return;
        }
        if *mode == Mode::Words {
            if keyword == "in" && *cases > 0 && words.len() == 2 {
                words.clear();
                *mode = Mode::Pattern;
            } else {
                words.push(word.literal);
            }
            return;
        }
        let digits_before_redirection =
            matches!(self.peek(0), Some('<' | '>')) && keyword.chars().all(|c| c.is_ascii_digit());
        if digits_before_redirection && !keyword.is_empty() {
            return;
        }
        match keyword {
            "if" | "then" | "elif" | "else" | "fi" | "while" | "until" | "do" | "done" | "{" | "}" | "!"
                if words.is_empty() => {}
            "esac" if words.is_empty() => *cases = cases.saturating_sub(1),
            "for" | "case" if words.is_empty() => {
                *cases += usize::from(keyword == "case");
                words.push(word.literal);
                *mode = Mode::Words;
            }
            _ => words.push(word.literal),
        }
    }

    fn end_command(&mut self, words: &mut Words, mode: &mut Mode) {
        let command = std::mem::take(words);
        if *mode == Mode::Command && !command.is_empty() {
            self.script.commands.push(command);
        }
        if *mode == Mode::Words {
            *mode = Mode::Command;
        }
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.at += 1;
        }
    }

    fn skip_heredocs(&mut self) {
        for (delimiter, tabs) in std::mem::take(&mut self.heredocs) {
            while self.at < self.chars.len() {
                let start = self.at;
                self.skip_line();
                let line: String = self.chars[start..self.at].iter().collect();
                self.at = (self.at + 1).min(self.chars.len());
                if (if tabs { line.trim_start_matches('\t') } else { &line }) == delimiter {
                    break;
                }
            }
        }
    }

    fn redirection(&mut self) {
        let heredoc = self.peek(0) == Some('<') && self.peek(1) == Some('<');
        while matches!(self.peek(0), Some('<' | '>' | '&' | '|')) {
            self.at += 1;
        }
        let tabs = heredoc && self.peek(0) == Some('-');
        if tabs {
            self.at += 1;
        }
        while matches!(self.peek(0), Some(' ' | '\t')) {
            self.at += 1;
        }
        if self.peek(0).is_none_or(|c| "\n;&|()".contains(c)) {
            return;
        }
        let word = self.word();
        match word.literal {
            Some(text) if heredoc => self.heredocs.push((text, tabs)),
            Some(text) if !text.chars().all(|c| c.is_ascii_digit() || c == '-') => self.script.redirected.push(text),
            _ => {}
        }
    }

    /// One word: quotes taken off, expansions followed (their commands count) and marked as unknown.
    fn word(&mut self) -> Word {
        let mut text = String::new();
        let (mut known, mut quoted) = (true, false);
        let mut certain = 0;
        while let Some(c) = self.peek(0) {
            if known {
                certain = text.len();
            }
            match c {
                ' ' | '\t' | '\n' | '\r' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\\' => {
                    quoted = true;
                    if self.peek(1) != Some('\n') {
                        text.extend(self.peek(1));
                    }
                    self.at += 2;
                }
                '\'' => {
                    quoted = true;
                    self.at += 1;
                    while let Some(c) = self.peek(0) {
                        self.at += 1;
                        if c == '\'' {
                            break;
                        }
                        text.push(c);
                    }
                }
                '"' => {
                    quoted = true;
                    self.at += 1;
                    known &= self.double_quoted(&mut text);
                }
                '`' if self.in_backticks => break,
                '$' | '`' => known &= self.expansion(&mut text),
                '*' | '?' | '~' => {
                    known = false;
                    self.at += 1;
                }
                c => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        self.at = self.at.min(self.chars.len());
        // `CC=$(which gcc) make`: that it is an assignment is known, whatever its value.
        let assigned = text[..certain].split_once('=').map(|(name, _)| format!("{name}="));
        Word { literal: if known { Some(text) } else { assigned }, quoted }
    }

    fn double_quoted(&mut self, text: &mut String) -> bool {
        let mut known = true;
        while let Some(c) = self.peek(0) {
            match c {
                '"' => {
                    self.at += 1;
                    break;
                }
                '\\' => {
                    text.extend(self.peek(1));
                    self.at += 2;
                }
                '$' | '`' => known &= self.expansion(text),
                c => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        known
    }

    /// At `$` or a backtick. Returns whether what stands there is literal after all.
    fn expansion(&mut self, text: &mut String) -> bool {
        if self.peek(0) == Some('`') {
            self.at += 1;
            let outer = std::mem::replace(&mut self.in_backticks, true);
            self.substitution('`');
            self.in_backticks = outer;
            return false;
        }
        match self.peek(1) {
            Some('(') if self.peek(2) == Some('(') => self.skip_balanced('(', ')'),
            Some('(') => {
                self.at += 2;
                self.substitution(')');
            }
            Some('{') => self.skip_balanced('{', '}'),
            Some(c) if c.is_ascii_alphanumeric() || "_@*#?$!-".contains(c) => {
                self.at += 2;
                while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                    self.at += 1;
                }
            }
            _ => {
                text.push('$');
                self.at += 1;
                return true;
            }
        }
        false
    }

    /// Each takes some of our stack: what is too deep is read as if it stood around it.
    fn substitution(&mut self, close: char) {
        if self.depth < MAX_DEPTH {
            self.depth += 1;
            self.commands(Some(close));
            self.depth -= 1;
        }
    }

    /// Passes over `$` and what is between the brackets after it.
    fn skip_balanced(&mut self, open: char, close: char) {
        self.at += 1;
        let mut depth = 0;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == open {
                depth += 1;
            } else if c == close {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::starts::tests::found;
    use super::*;

    #[test]
    fn whatever_is_long_or_deep_is_read_once_and_ends() {
        let (long, deep) = (3 << 20, 300_000);
        assert_eq!(found(&format!("cc {}", "x".repeat(long))), ["cc"]);
        for open in ["$(a ", "`a $(b ", "\"$(a ", "`a \"$(b "] {
            assert!(found(&open.repeat(deep)).iter().any(|name| name == "a"), "{open}");
        }
    }

    #[test]
    fn a_backtick_ends_what_began_inside_of_it() {
        assert_eq!(found("`a $(b `"), ["b", "a"]);
        assert_eq!(found("`a $(b `; c"), ["b", "a", "c"]);
        assert_eq!(found("x `a $(b $(c `) y"), ["c", "b", "a", "x", "y"]);
    }

    #[test]
    fn words_in_command_position_are_programs() {
        assert_eq!(found("make && make install; ls | sort -u & wc"), ["make", "make", "ls", "sort", "wc"]);
        assert_eq!(found("CC=gcc LD=ld ./configure --x"), ["./configure"]);
        assert_eq!(found("if test -f x; then cp a b; else mv a b; fi"), ["cp", "mv"]);
        assert_eq!(found("for f in a b; do gzip $f; done"), ["gzip"]);
        assert_eq!(found("(cd x && tar xf y)"), ["tar"]);
        assert_eq!(found("! grep x y"), ["grep"]);
    }

    #[test]
    fn substitutions_are_followed_and_expansions_are_not_guessed() {
        assert_eq!(found("echo $(uname -m) \"$(id -u)\" `hostname`"), ["uname", "id", "hostname"]);
        assert_eq!(found("$CC -c x.c"), [""; 0]);
        assert_eq!(found("x=${a:-$(b)} cmd"), ["cmd"]);
        assert_eq!(found("echo $((1 + 2)) && cmd"), ["cmd"]);
    }

    #[test]
    fn quotes_comments_and_here_documents_hide_words() {
        assert_eq!(found("echo 'a; b' \"c | d\" # rm x\nls"), ["ls"]);
        assert_eq!(found("cat <<EOF\nrm x\nEOF\nls"), ["cat", "ls"]);
        assert_eq!(found("cat <<-'E O'\n\trm x\n\tE O\nls"), ["cat", "ls"]);
        assert_eq!(found("'my tool' x"), ["my tool"]);
    }

    #[test]
    fn redirections_are_no_words_of_the_command() {
        let script = scan("sort < in.txt > out.txt 2>&1 2>err");
        assert_eq!(script.redirected, ["in.txt", "out.txt", "err"]);
        assert_eq!(script.commands, [vec![Some("sort".to_owned())]]);
    }

    #[test]
    fn case_patterns_and_functions_are_no_programs() {
        assert_eq!(found("case $x in a|b) cp 1 2;; *) mv 1 2;; esac; ls"), ["cp", "mv", "ls"]);
        assert_eq!(found("build() { make; }; build"), ["make"]);
    }

    #[test]
    fn broken_strings_end_quietly() {
        for text in ["'", "\"", "$(", "${", "`", "\\", "<<", "case", "a <", "$((", "for", ")", "((", "<<E"] {
            let _ = scan(text);
        }
    }
}
