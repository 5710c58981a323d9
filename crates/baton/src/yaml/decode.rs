//! From the tree to our types, by serde, noting every problem with its place instead of stopping
//! at the first: unknown fields and wrong items of lists are noted and left out.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor, value::StrDeserializer,
};
use serde::forward_to_deserialize_any;

use super::diagnostic::{Diagnostic, Source};
use super::nearest::nearest;
use super::tree::{Key, Kind, Node, Span};

/// Reads a value from a tree, or says everything that is wrong with it.
pub fn decode<'de, T: Deserialize<'de>>(
    sources: &[Source],
    node: &Node,
) -> Result<T, Vec<Diagnostic>> {
    let noted = RefCell::new(Vec::new());
    let value = T::deserialize(At { node, sources, noted: &noted });
    let mut noted = noted.into_inner();
    match value {
        Ok(value) if noted.is_empty() => Ok(value),
        Ok(_) => Err(noted),
        Err(Wrong(diagnostic)) => {
            noted.push(*diagnostic);
            Err(noted)
        }
    }
}

/// What serde is told; it becomes a diagnostic of the node at which it arises.
#[derive(Debug)]
struct Wrong(Box<Diagnostic>);

impl Wrong {
    fn new(span: Option<Span>, what: impl Into<String>, help: impl Into<String>) -> Wrong {
        Wrong(Box::new(Diagnostic::new(span, what).help(help)))
    }

    fn at(mut self, span: Span) -> Wrong {
        self.0.span.get_or_insert(span);
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl std::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    /// Our own types say what is wrong and, after a colon, how to write it.
    fn custom<T: fmt::Display>(message: T) -> Wrong {
        let text = message.to_string();
        match text.rsplit_once(": ") {
            Some((what, help)) => Wrong::new(None, what, help),
            None => Wrong(Box::new(Diagnostic::new(None, text))),
        }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Wrong {
        Wrong::new(None, format!("there is no field {field} here"), meant(field, known))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Wrong {
        Wrong::new(None, format!("{word} is not known here"), meant(word, known))
    }

    fn missing_field(field: &'static str) -> Wrong {
        Wrong::new(None, format!("{field} is missing here"), format!("add `{field}:`"))
    }

    fn duplicate_field(field: &'static str) -> Wrong {
        Wrong::new(None, format!("{field} stands here twice"), "take one of them out")
    }
}

fn meant(word: &str, known: &[&str]) -> String {
    let all = known.join(", ");
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean {near}? Known here: {all}"),
        None => format!("known here: {all}"),
    }
}

/// A node about to be read.
#[derive(Clone, Copy)]
struct At<'t> {
    node: &'t Node,
    sources: &'t [Source],
    noted: &'t RefCell<Vec<Diagnostic>>,
}

impl<'t> At<'t> {
    fn to(self, node: &'t Node) -> At<'t> {
        At { node, ..self }
    }

    fn note(self, wrong: Wrong) {
        self.noted.borrow_mut().push(*wrong.0);
    }

    /// The error of a node that is something else than expected.
    fn expected(self, what: &str, help: &str) -> Wrong {
        let found = match &self.node.kind {
            Kind::Null => "nothing",
            Kind::Boolean(true) => "true",
            Kind::Boolean(false) => "false",
            Kind::Integer(_) | Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        };
        Wrong::new(Some(self.node.mark()), format!("expected {what}, found {found}"), help)
    }

    /// A scalar as it was written: `0123` and `1.2` where a text is wanted.
    fn as_written(self) -> Option<String> {
        let raw = || {
            let span = self.node.defined;
            let text = &self.sources.get(span.file)?.text;
            text.get(span.start..span.start + span.bytes).map(str::to_owned)
        };
        match &self.node.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Boolean(value) => Some(raw().unwrap_or_else(|| value.to_string())),
            Kind::Integer(value) => Some(raw().unwrap_or_else(|| value.to_string())),
            Kind::Number(value) => Some(raw().unwrap_or_else(|| value.to_string())),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    fn text(self) -> Result<String, Wrong> {
        self.as_written().ok_or_else(|| {
            self.expected("a text", "write it behind the colon, in quotes if it may be empty")
        })
    }

    fn integer(self, least: i64, most: i64) -> Result<i64, Wrong> {
        match self.node.kind {
            Kind::Integer(value) if (least..=most).contains(&value) => Ok(value),
            Kind::Integer(value) => Err(Wrong::new(
                Some(self.node.mark()),
                format!("{value} is out of range"),
                format!("use {least} to {most}"),
            )),
            _ => Err(self.expected("a whole number", "write a number without unit and quotes")),
        }
    }

    fn entries(self, help: &str) -> Result<&'t [(Key, Node)], Wrong> {
        match &self.node.kind {
            Kind::Map(entries) => Ok(entries),
            _ => Err(self.expected("a mapping", help)),
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            let least = i64::try_from(<$type>::MIN).unwrap_or(i64::MIN);
            let most = i64::try_from(<$type>::MAX).unwrap_or(i64::MAX);
            let value = self.integer(least, most)?;
            // In range, as just checked.
            visitor.$visit(value as $type).map_err(|wrong: Wrong| wrong.at(self.node.mark()))
        }
    )*};
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Boolean(value) => visitor.visit_bool(*value),
            Kind::Integer(value) => visitor.visit_i64(*value),
            Kind::Number(value) => visitor.visit_f64(*value),
            Kind::Text(text) => visitor.visit_str(text),
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.node.kind {
            Kind::Boolean(value) => visitor.visit_bool(value),
            _ => Err(self.expected("true or false", "write true or false, without quotes")),
        }
    }

    integers! {
        deserialize_i64 visit_i64 i64;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let text = self.text()?;
        visitor.visit_string(text).map_err(|wrong: Wrong| wrong.at(self.node.mark()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.node.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.kind {
            Kind::List(items) => visitor.visit_seq(Items { at: self, items: items.iter() }),
            _ => Err(self.expected("a list", "write `- ` before each item, or [] for none")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let entries = self.entries("write `name: value`, each on a line of its own")?.iter();
        visitor
            .visit_map(Entries { at: self, entries, known: None, value: None })
            .map_err(|wrong| wrong.at(self.node.mark()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let help = format!("write its fields, each on a line of its own: {}", fields.join(", "));
        let entries = self.entries(&help)?.iter();
        visitor
            .visit_map(Entries { at: self, entries, known: Some(fields), value: None })
            .map_err(|wrong| wrong.at(self.node.mark()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let choice = match &self.node.kind {
            Kind::Map(entries) if entries.len() == 1 => Choice {
                at: self,
                word: entries[0].0.text.clone(),
                span: entries[0].0.span,
                content: Some(&entries[0].1),
            },
            Kind::Map(_) | Kind::List(_) | Kind::Null => {
                let help = format!("choose one: {}", variants.join(", "));
                return Err(self.expected("exactly one choice", &help));
            }
            Kind::Boolean(_) | Kind::Integer(_) | Kind::Number(_) | Kind::Text(_) => {
                Choice { at: self, word: self.text()?, span: self.node.mark(), content: None }
            }
        };
        let span = choice.span;
        visitor.visit_enum(choice).map_err(|wrong| wrong.at(span))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier
    }
}

/// The items of a list; wrong ones are noted and left out.
struct Items<'t> {
    at: At<'t>,
    items: std::slice::Iter<'t, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        match self.items.next() {
            Some(node) => seed.deserialize(self.at.to(node)).map(Some),
            None => Ok(None),
        }
    }

    /// What serde's `Vec` calls: a wrong item is noted, and the next one tried.
    fn next_element<T: Deserialize<'de>>(&mut self) -> Result<Option<T>, Wrong> {
        for node in self.items.by_ref() {
            let at = self.at.to(node);
            match T::deserialize(at) {
                Ok(value) => return Ok(Some(value)),
                Err(wrong) => at.note(wrong.at(node.mark())),
            }
        }
        Ok(None)
    }
}

/// The entries of a mapping; those of unknown fields are noted and left out.
struct Entries<'t> {
    at: At<'t>,
    entries: std::slice::Iter<'t, (Key, Node)>,
    known: Option<&'static [&'static str]>,
    value: Option<&'t Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        for (key, value) in self.entries.by_ref() {
            if let Some(known) = self.known
                && !known.contains(&key.text.as_str())
            {
                let wrong: Wrong = serde::de::Error::unknown_field(&key.text, known);
                self.at.note(wrong.at(key.span));
                continue;
            }
            self.value = Some(value);
            let key_text: StrDeserializer<'_, Wrong> = key.text.as_str().into_deserializer();
            return seed.deserialize(key_text).map(Some).map_err(|wrong| wrong.at(key.span));
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        let Some(node) = self.value.take() else {
            return Err(Wrong::new(None, "a value was read before its key", "report this"));
        };
        seed.deserialize(self.at.to(node)).map_err(|wrong| wrong.at(node.mark()))
    }
}

/// A choice of several: a word, or a mapping of one word to its settings.
struct Choice<'t> {
    at: At<'t>,
    word: String,
    span: Span,
    content: Option<&'t Node>,
}

impl<'de, 't> EnumAccess<'de> for Choice<'t> {
    type Error = Wrong;
    type Variant = Choice<'t>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Choice<'t>), Wrong> {
        let word: StrDeserializer<'_, Wrong> = self.word.as_str().into_deserializer();
        let value = seed.deserialize(word).map_err(|wrong| wrong.at(self.span))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        match self.content {
            None | Some(Node { kind: Kind::Null, .. }) => Ok(()),
            Some(content) => Err(Wrong::new(
                Some(content.mark()),
                format!("{} takes no value", self.word),
                format!("write the word alone: {}", self.word),
            )),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        match self.content {
            Some(content) => {
                seed.deserialize(self.at.to(content)).map_err(|wrong| wrong.at(content.mark()))
            }
            None => Err(Wrong::new(
                Some(self.span),
                format!("{} needs a value", self.word),
                format!("write `{}: ` and its value, or its settings indented below", self.word),
            )),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.at.to(self.content.unwrap_or(self.at.node)).deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let node = self.content.unwrap_or(self.at.node);
        self.at.to(node).deserialize_struct("", fields, visitor)
    }
}
