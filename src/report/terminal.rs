//! The one file that owns the terminal: whether there is one, what it can do, and the live lines at
//! its bottom.
//!
//! Nothing is asked of the system before something is printed: an up-to-date build pays for one line.
//!
//! **Live lines** are the last thing on the screen; the cursor stays at the end of the last of them.
//! What is printed for good goes above: one `write` erases them and prints, and a later one draws them
//! again. They are cut one column short of the width, so that no terminal wraps them. When the
//! window became narrower since they were drawn, terminals reflow them; the rows to erase are
//! counted for the new width. The cursor is never hidden: nothing has to be put back if we are killed.
//!
//! A write that fails (the terminal was closed) ends all output in silence: a build must not die of it.

use std::cell::LazyCell;
use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// When to use colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Color {
    /// On a terminal that can, and unless `NO_COLOR` says otherwise.
    #[default]
    Auto,
    Always,
    Never,
}

/// What the place that is written to can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ability {
    pub color: bool,
    /// Can lines be drawn over again?
    pub live: bool,
    pub unicode: bool,
}

impl Ability {
    /// `variable` reads the environment: `NO_COLOR`, `CLICOLOR_FORCE`, `CLICOLOR`, `TERM`, `CI` (where a log is
    /// kept though it looks like a terminal), and the locale.
    pub fn new(color: Color, is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |name| variable(name).filter(|value| !value.is_empty());
        let smart = is_terminal && value("TERM").is_some_and(|term| term != "dumb");
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if value("NO_COLOR").is_some() => false,
            Color::Auto if value("CLICOLOR_FORCE").is_some_and(|force| force != "0") => true,
            Color::Auto if value("CLICOLOR").is_some_and(|wanted| wanted == "0") => false,
            Color::Auto => smart,
        };
        let locale = value("LC_ALL").or_else(|| value("LC_CTYPE")).or_else(|| value("LANG")).unwrap_or_default();
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        let unicode = locale.ends_with("utf-8") || locale.ends_with("utf8");
        Self { color, live: smart && value("CI").is_none(), unicode }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

/// For terminals that don't say.
const USUAL: Size = Size { columns: 80, rows: 24 };

fn size_of(terminal: impl AsFd) -> Size {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
        }
        _ => USUAL,
    }
}

pub const GOOD: Style = AnsiColor::BrightGreen.on_default().bold();
pub const BUSY: Style = AnsiColor::BrightCyan.on_default().bold();
pub const WARNING: Style = AnsiColor::BrightYellow.on_default().bold();
pub const ERROR: Style = AnsiColor::BrightRed.on_default().bold();
pub const FAINT: Style = Style::new().dimmed();

/// Columns of the gutter that verbs stand in, as cargo prints them.
pub const GUTTER: usize = 12;

/// `text` in a style, or as it is.
pub fn paint(text: &str, style: Style, color: bool) -> String {
    if color { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// A line of the live area: something short in the gutter, and the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveLine {
    pub gutter: String,
    pub text: String,
}

/// A place for people to read: bytes go out in the order given, live lines stay below them.
pub struct Terminal {
    out: Box<dyn Write + Send>,
    ability: LazyCell<Ability, Box<dyn FnOnce() -> Ability + Send>>,
    size: Box<dyn Fn() -> Size + Send>,
    /// The live lines on the screen, and how wide each is.
    drawn: Vec<(LiveLine, usize)>,
    closed: bool,
}

impl Terminal {
    pub fn stderr(color: Color) -> Self {
        let ability = move || Ability::new(color, io::stderr().is_terminal(), |name| std::env::var_os(name));
        Self::new(Box::new(io::stderr()), Box::new(ability), Box::new(|| size_of(io::stderr())))
    }

    fn new(
        out: Box<dyn Write + Send>,
        ability: Box<dyn FnOnce() -> Ability + Send>,
        size: Box<dyn Fn() -> Size + Send>,
    ) -> Self {
        Self { out, ability: LazyCell::new(ability), size, drawn: Vec::new(), closed: false }
    }

    pub fn ability(&self) -> Ability {
        *self.ability
    }

    pub fn size(&self) -> Size {
        (self.size)()
    }

    /// Prints for good. `text` is whole lines. The live lines are gone after it until they are drawn again.
    pub fn print(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let mut bytes = self.erasure();
        bytes.extend_from_slice(text);
        self.send(&bytes);
    }

    /// Shows these live lines and no others.
    pub fn draw(&mut self, lines: Vec<LiveLine>) {
        if lines.is_empty() || lines.iter().eq(self.drawn.iter().map(|(line, _)| line)) {
            return;
        }
        let Ability { color, unicode, .. } = self.ability();
        let columns = self.size().columns.saturating_sub(1).max(1);
        let mut bytes = self.erasure();
        for (i, line) in lines.into_iter().enumerate() {
            let text = cut(&format!("{:>GUTTER$} {}", line.gutter, line.text), columns, unicode);
            if i > 0 {
                bytes.push(b'\n');
            }
            let width = text.width();
            let gutter = text.char_indices().nth(GUTTER).map_or(text.len(), |(at, _)| at);
            bytes.extend_from_slice(paint(&text[..gutter], BUSY, color).as_bytes());
            bytes.extend_from_slice(&text.as_bytes()[gutter..]);
            self.drawn.push((line, width));
        }
        self.send(&bytes);
    }

    /// Takes the live lines away.
    pub fn clear(&mut self) {
        let bytes = self.erasure();
        self.send(&bytes);
    }

    pub fn has_live_lines(&self) -> bool {
        !self.drawn.is_empty()
    }

    /// What moves the cursor to the beginning of the live area and empties the screen from there.
    fn erasure(&mut self) -> Vec<u8> {
        if self.drawn.is_empty() {
            return Vec::new();
        }
        let columns = self.size().columns;
        let rows: usize = self.drawn.drain(..).map(|(_, width)| width.div_ceil(columns).max(1)).sum();
        let up = if rows > 1 { format!("\x1b[{}A", rows - 1) } else { String::new() };
        format!("\r{up}\x1b[J").into_bytes()
    }

    fn send(&mut self, bytes: &[u8]) {
        if !self.closed && !bytes.is_empty() && write_whole(&mut self.out, bytes).is_err() {
            self.closed = true;
        }
    }
}

/// Writes everything, also where a program that shares the terminal with us has made it non-blocking
/// (make and node do).
pub fn write_whole(out: &mut dyn Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
            Err(e) => return Err(e),
        }
    }
    out.flush()
}

/// Asks on the terminal. `None` where there is nobody to ask; no answer is no.
pub fn ask(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let question = format!("{question} [y/N] ");
    write_whole(&mut io::stderr(), question.as_bytes()).ok()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// The beginning of `text` that fits into `columns`, with a mark where something was cut.
fn cut(text: &str, columns: usize, unicode: bool) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mark = if unicode { "…" } else { "" };
    let mut room = columns.saturating_sub(mark.width());
    let mut kept = String::new();
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > room {
            break;
        }
        room -= width;
        kept.push(c);
    }
    kept + mark
}

#[cfg(test)]
pub mod fake {
    //! Places to print to that a test can read.

    use super::*;
    use std::sync::{Arc, Mutex};

    /// Everything that was written.
    #[derive(Clone, Default)]
    pub struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Something that is no terminal.
    pub fn file(out: impl Write + Send + 'static, color: bool) -> Terminal {
        let ability = Ability { color, live: false, unicode: true };
        Terminal::new(Box::new(out), Box::new(move || ability), Box::new(|| USUAL))
    }

    /// A terminal behind this file, which is asked for its size.
    pub fn terminal(tty: std::fs::File) -> Terminal {
        let asked = tty.try_clone().unwrap();
        let ability = Ability { color: false, live: true, unicode: true };
        Terminal::new(Box::new(tty), Box::new(move || ability), Box::new(move || size_of(&asked)))
    }

    /// A terminal that no system call has to be made for until it is used: asking panics.
    pub fn untouchable() -> Terminal {
        struct Nothing;
        impl Write for Nothing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                panic!("written to")
            }
            fn flush(&mut self) -> io::Result<()> {
                panic!("flushed")
            }
        }
        Terminal::new(Box::new(Nothing), Box::new(|| panic!("asked for its ability")), Box::new(|| panic!("size")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ability(color: Color, is_terminal: bool, variables: &[(&str, &str)]) -> Ability {
        Ability::new(color, is_terminal, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn colors_follow_the_option_then_no_color_then_clicolor_force_then_the_terminal() {
        let term = ("TERM", "xterm");
        let color = |when, is_terminal, variables: &[_]| ability(when, is_terminal, variables).color;
        assert!(color(Color::Auto, true, &[term]));
        assert!(!color(Color::Auto, false, &[term]));
        assert!(!color(Color::Auto, true, &[("TERM", "dumb")]));
        assert!(!color(Color::Auto, true, &[]));
        assert!(!color(Color::Auto, true, &[term, ("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]));
        assert!(color(Color::Auto, true, &[term, ("NO_COLOR", "")]));
        assert!(color(Color::Auto, false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!color(Color::Auto, false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!color(Color::Auto, true, &[term, ("CLICOLOR", "0")]));
        assert!(color(Color::Always, false, &[("NO_COLOR", "1")]));
        assert!(!color(Color::Never, true, &[term, ("CLICOLOR_FORCE", "1")]));
    }

    #[test]
    fn live_lines_need_a_terminal_that_is_not_dumb_and_no_ci() {
        let live = |is_terminal, variables: &[_]| ability(Color::Never, is_terminal, variables).live;
        assert!(live(true, &[("TERM", "xterm")]));
        assert!(!live(false, &[("TERM", "xterm")]));
        assert!(!live(true, &[("TERM", "dumb")]));
        assert!(!live(true, &[]));
        assert!(!live(true, &[("TERM", "xterm"), ("CI", "true")]));
        assert!(!ability(Color::Always, false, &[("CLICOLOR_FORCE", "1")]).live);
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides_about_unicode() {
        let unicode = |variables: &[_]| ability(Color::Never, true, variables).unicode;
        assert!(unicode(&[("LANG", "de_DE.UTF-8")]));
        assert!(unicode(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!unicode(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(!unicode(&[]));
    }

    #[test]
    fn a_cut_line_fits_and_says_that_it_was_cut() {
        assert_eq!(cut("abcdef", 6, true), "abcdef");
        assert_eq!(cut("abcdef", 5, true), "abcd…");
        assert_eq!(cut("abcdef", 5, false), "abcde");
        assert_eq!(cut("漢字漢字", 6, true), "漢字…");
        assert_eq!(cut("漢字漢字", 6, false), "漢字漢");
        assert_eq!(cut("abc", 1, true), "…");
    }

    #[test]
    fn a_terminal_that_would_block_is_waited_for() {
        struct Shy(Vec<u8>, bool);
        impl Write for Shy {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.0.push(bytes[0]);
                Ok(1)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut shy = Shy(Vec::new(), false);
        write_whole(&mut shy, b"abc").unwrap();
        assert_eq!(shy.0, b"abc");
    }
}
