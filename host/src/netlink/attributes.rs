//! Flat lists of attributes, for families of which no crate knows the messages.

use netlink_packet_core::{Emitable, NLA_F_NESTED, Nla, NlasIterator, parse_string, parse_u16, parse_u32};

/// Attributes that keep their bytes; those that nobody asks for are never looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<Attribute>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    kind: u16,
    nested: bool,
    value: Vec<u8>,
}

impl Attributes {
    /// Takes what is readable: an attribute that is cut off ends the list, and what is missing is missed by its reader.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let attributes = NlasIterator::new(bytes)
            .map_while(Result::ok)
            .map(|attribute| Attribute {
                kind: attribute.kind(),
                nested: attribute.nested_flag(),
                value: attribute.value().to_vec(),
            });
        Self(attributes.collect())
    }

    pub(crate) fn with_bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.push(Attribute {
            kind,
            nested: false,
            value: value.to_vec(),
        });
        self
    }

    pub(crate) fn with_u32(self, kind: u16, value: u32) -> Self {
        self.with_bytes(kind, &value.to_ne_bytes())
    }

    pub(crate) fn with_text(self, kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.with_bytes(kind, &bytes)
    }

    pub(crate) fn with_nested(mut self, kind: u16, inner: &Self) -> Self {
        let mut value = vec![0; inner.buffer_len()];
        inner.emit(&mut value);
        self.0.push(Attribute {
            kind,
            nested: true,
            value,
        });
        self
    }

    pub(crate) fn followed_by(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    pub(crate) fn u16(&self, kind: u16) -> Option<u16> {
        parse_u16(self.bytes(kind)?).ok()
    }

    pub(crate) fn u32(&self, kind: u16) -> Option<u32> {
        parse_u32(self.bytes(kind)?).ok()
    }

    pub(crate) fn text(&self, kind: u16) -> Option<String> {
        parse_string(self.bytes(kind)?).ok()
    }

    pub(crate) fn has(&self, kind: u16) -> bool {
        self.bytes(kind).is_some()
    }

    pub(crate) fn nested(&self, kind: u16) -> Option<Self> {
        Some(Self::parse(self.bytes(kind)?))
    }

    /// The attributes inside each attribute of this kind.
    pub(crate) fn all_nested(&self, kind: u16) -> impl Iterator<Item = Self> {
        let same = self.0.iter().filter(move |attribute| attribute.kind == kind);
        same.map(|attribute| Self::parse(&attribute.value))
    }

    pub(crate) fn bytes(&self, kind: u16) -> Option<&[u8]> {
        let attribute = self.0.iter().find(|attribute| attribute.kind == kind)?;
        Some(&attribute.value)
    }
}

impl Emitable for Attributes {
    fn buffer_len(&self) -> usize {
        self.0.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.0.as_slice().emit(buffer);
    }
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind | if self.nested { NLA_F_NESTED } else { 0 }
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.value);
    }
}
