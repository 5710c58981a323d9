//! From the text of a filter to its predicate tree, by recursive descent with a bounded depth.

use model::Value;

use super::{DEPTH_MAX, FilterError, Predicate, SOURCE_BYTES_MAX};

type Result<T> = std::result::Result<T, FilterError>;

/// Parses a whole filter.
pub(super) fn filter(text: &str) -> Result<Predicate> {
    if text.len() > SOURCE_BYTES_MAX {
        return Err(FilterError {
            at: SOURCE_BYTES_MAX,
            what: format!("it is {} bytes long", text.len()),
            help: format!("use at most {SOURCE_BYTES_MAX} bytes, or several send ports"),
        });
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    if parser.peek().is_none() {
        return Err(parser.error("it is empty", "write `true` to subscribe to every message"));
    }
    let root = parser.any()?;
    match parser.peek() {
        None => Ok(root),
        Some(_) => Err(parser.unexpected_end()),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// One side of a comparison.
enum Operand {
    Property(String),
    Literal(Value),
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Predicate> {
        let mut parts = vec![self.all()?];
        while self.take("||") {
            parts.push(self.all()?);
        }
        Ok(Predicate::any(parts))
    }

    fn all(&mut self) -> Result<Predicate> {
        let mut parts = vec![self.unary()?];
        while self.take("&&") {
            parts.push(self.unary()?);
        }
        Ok(Predicate::all(parts))
    }

    fn unary(&mut self) -> Result<Predicate> {
        self.skip_space();
        let (start, rest) = (self.at, self.rest());
        if rest.starts_with('!') && !rest.starts_with("!=") {
            self.at += 1;
            self.deeper(start)?;
            let inner = self.unary()?;
            self.depth -= 1;
            return Ok(Predicate::Not(Box::new(inner)));
        }
        if self.take("(") {
            self.deeper(start)?;
            let inner = self.any()?;
            self.expect_close(start)?;
            self.depth -= 1;
            return Ok(inner);
        }
        self.primary()
    }

    fn deeper(&mut self, start: usize) -> Result<()> {
        self.depth += 1;
        if self.depth <= DEPTH_MAX {
            return Ok(());
        }
        Err(FilterError {
            at: start,
            what: format!("more than {DEPTH_MAX} parentheses and `!` are nested here"),
            help: "split the filter over several send ports".into(),
        })
    }

    fn primary(&mut self) -> Result<Predicate> {
        let start = self.at;
        let left = self.operand()?;
        if let Operand::Property(name) = &left
            && matches!(name.as_str(), "has" | "exists")
            && self.take("(")
        {
            let name = self.presence(start)?;
            return Ok(Predicate::Has(name));
        }
        self.comparison(start, left)
    }

    fn presence(&mut self, start: usize) -> Result<String> {
        self.skip_space();
        let at = self.at;
        let Operand::Property(name) = self.operand()? else {
            return Err(FilterError {
                at,
                what: "this asks for the presence of a value".into(),
                help: "put a property's name in the parentheses, without quotes".into(),
            });
        };
        self.expect_close(start)?;
        Ok(name)
    }

    fn comparison(&mut self, start: usize, left: Operand) -> Result<Predicate> {
        let equal = self.take("==");
        if !equal && !self.take("!=") {
            return match left {
                Operand::Literal(Value::Boolean(value)) => Ok(Predicate::Constant(value)),
                Operand::Property(_) | Operand::Literal(_) => Err(self.no_operator(start, &left)),
            };
        }
        self.skip_space();
        let right = self.operand()?;
        let (name, value) = match (left, right) {
            (Operand::Property(name), Operand::Literal(value))
            | (Operand::Literal(value), Operand::Property(name)) => (name, value),
            (Operand::Property(_), Operand::Property(name)) => {
                return Err(FilterError {
                    at: start,
                    what: "this compares two properties".into(),
                    help: format!("if {name} is meant as text, put it in quotes: \"{name}\""),
                });
            }
            (Operand::Literal(_), Operand::Literal(_)) => {
                return Err(FilterError {
                    at: start,
                    what: "this compares two values".into(),
                    help: "compare a property with a value; a property stands without quotes"
                        .into(),
                });
            }
        };
        Ok(if equal { Predicate::Equal(name, value) } else { Predicate::NotEqual(name, value) })
    }

    fn no_operator(&mut self, start: usize, left: &Operand) -> FilterError {
        self.skip_space();
        let rest = self.rest();
        if rest.starts_with('=') {
            return self.error("`=` compares nothing", "write `==`");
        }
        if rest.starts_with(['<', '>']) {
            return self.error("`<` and `>` are not known", "use `==`, `!=` or has(PROPERTY)");
        }
        match left {
            Operand::Property(name) => FilterError {
                at: start,
                what: format!("property {name} is compared with nothing"),
                help: format!("write {name} == \"...\", or has({name}) to ask for its presence"),
            },
            Operand::Literal(_) => FilterError {
                at: start,
                what: "a value alone is no condition".into(),
                help: "compare a property with it: PROPERTY == value".into(),
            },
        }
    }

    fn operand(&mut self) -> Result<Operand> {
        match self.peek() {
            None => {
                Err(self
                    .error("it ends too early", "write a property, such as BTS.ReceivePortName"))
            }
            Some(quote @ ('"' | '\'')) => {
                self.string(quote).map(|text| Operand::Literal(Value::Text(text)))
            }
            Some('-' | '0'..='9') => {
                self.integer().map(|number| Operand::Literal(Value::Integer(number)))
            }
            Some(first) if first == '_' || first.is_ascii_alphabetic() => self.name(),
            Some(other) => Err(self.error(
                format!("{other:?} does not fit here"),
                "write a property, a text in quotes, a whole number, true or false",
            )),
        }
    }

    /// Identifiers with dots between them, without spaces.
    fn name(&mut self) -> Result<Operand> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c == '.' || c == '_' || c.is_ascii_alphanumeric()))
            .unwrap_or(rest.len());
        let name = &rest[..end];
        let whole = name.split('.').all(|part| {
            part.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic())
        });
        if !whole {
            return Err(self.error(
                format!("{name} is no property name"),
                "use words of letters, digits and '_' with single dots between them",
            ));
        }
        let operand = match name {
            "true" => Operand::Literal(Value::Boolean(true)),
            "false" => Operand::Literal(Value::Boolean(false)),
            name => Operand::Property(name.to_owned()),
        };
        self.at += end;
        Ok(operand)
    }

    fn integer(&mut self) -> Result<i64> {
        let rest = self.rest();
        let sign = usize::from(rest.starts_with('-'));
        let end = rest[sign..]
            .find(|c: char| !(c == '.' || c == '_' || c.is_ascii_alphanumeric()))
            .map_or(rest.len(), |end| end + sign);
        let text = &rest[..end];
        let decimal = text[sign..].bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if decimal => {
                self.at += end;
                Ok(number)
            }
            _ => Err(self.error(
                format!("{text} is not a whole number of 64 bits"),
                "write a whole number such as 42 or -1, or a text in quotes",
            )),
        }
    }

    fn string(&mut self, quote: char) -> Result<String> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(next) = self.rest().chars().next() else {
                return Err(FilterError {
                    at: start,
                    what: "this text does not end".into(),
                    help: format!("close it with {quote}"),
                });
            };
            match next {
                '\\' => text.push(self.escape()?),
                '\n' | '\r' => {
                    return Err(self.error("a line ends inside of a text", "write \\n for it"));
                }
                other => {
                    self.at += other.len_utf8();
                    if other == quote {
                        return Ok(text);
                    }
                    text.push(other);
                }
            }
        }
    }

    /// CEL's escapes for one character.
    fn escape(&mut self) -> Result<char> {
        let start = self.at;
        let letter = self.rest().chars().nth(1);
        let simple = match letter {
            Some(same @ ('\\' | '"' | '\'' | '`' | '?')) => Some(same),
            Some('a') => Some('\x07'),
            Some('b') => Some('\x08'),
            Some('f') => Some('\x0c'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('v') => Some('\x0b'),
            _ => None,
        };
        if let Some(character) = simple {
            self.at += 2;
            return Ok(character);
        }
        let digits = match letter {
            Some('x' | 'X') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let code = self
            .text
            .get(start + 2..start + 2 + digits)
            .filter(|code| !code.is_empty() && code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let character =
            code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        let Some(character) = character else {
            return Err(self.error(
                "this escape is not known",
                "use \\\\ for a backslash, or \\\" \\' \\n \\r \\t \\xHH \\uHHHH",
            ));
        };
        self.at = start + 2 + digits;
        Ok(character)
    }

    fn expect_close(&mut self, open: usize) -> Result<()> {
        if self.take(")") {
            return Ok(());
        }
        if self.peek().is_some() {
            return Err(self.unexpected_end());
        }
        Err(FilterError {
            at: open,
            what: "this parenthesis is not closed".into(),
            help: "add `)`".into(),
        })
    }

    /// Something stands where the expression should end or go on with `&&` or `||`.
    fn unexpected_end(&self) -> FilterError {
        let rest = self.rest();
        let word: String = rest.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
        if rest.starts_with(')') {
            self.error("this parenthesis closes nothing", "take it out, or add `(` before")
        } else if word.eq_ignore_ascii_case("and") || rest.starts_with('&') {
            self.error("conditions are not joined like this", "write `&&`")
        } else if word.eq_ignore_ascii_case("or") || rest.starts_with('|') {
            self.error("conditions are not joined like this", "write `||`")
        } else if rest.starts_with("==") || rest.starts_with("!=") {
            self.error("a comparison is compared", "join comparisons with `&&` or `||`")
        } else {
            self.error("a condition ends before this", "join conditions with `&&` or `||`")
        }
    }

    fn error(&self, what: impl Into<String>, help: impl Into<String>) -> FilterError {
        FilterError { at: self.at, what: what.into(), help: help.into() }
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest().chars().next()
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let there = self.rest().starts_with(token);
        if there {
            self.at += token.len();
        }
        there
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn rest(&self) -> &str {
        // `at` only moves over whole characters, so it never splits one.
        &self.text[self.at..]
    }
}
