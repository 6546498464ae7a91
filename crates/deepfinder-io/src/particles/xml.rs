//! Walks through XML lists, with the line of whatever is wrong.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::fields::{Fields, Input, present};
use crate::{IoError, Result};

/// Calls `visit` for each element with its depth; 0 is the document's element, which has to be called `root`.
pub(super) fn walk(
    input: &Input<'_>,
    root: &str,
    mut visit: impl FnMut(&Fields<'_>, &BytesStart<'_>, usize) -> Result<()>,
) -> Result<()> {
    let text = input.text()?;
    let line_at = |position: u64| {
        let before = text.as_bytes().iter().take(position as usize);
        format!("line {}", before.filter(|&&byte| byte == b'\n').count() + 1)
    };
    let mut reader = Reader::from_str(text);
    let mut depth = 0_usize;
    let mut has_root = false;
    loop {
        let start = reader.buffer_position();
        let event = reader.read_event();
        let place = || match text.get(start as usize..).and_then(present) {
            Some(rest) => line_at(text.len() as u64 - rest.len() as u64),
            None => line_at(start),
        };
        let fields = Fields { input, place: &place };
        let event = event.map_err(|error| {
            let what = format!("this is not well-formed XML: {error}");
            IoError::malformed(input.path, line_at(reader.error_position()), what)
        })?;
        let (element, is_open) = match event {
            Event::Start(element) => (element, true),
            Event::Empty(element) => (element, false),
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        if depth == 0 {
            if has_root || element.name().as_ref() != root {
                let what = format!(
                    "this kind of list has one <{root}> at its top, this has <{}>: is it another program's list?",
                    element.name().as_ref()
                );
                return Err(fields.wrong(what));
            }
            has_root = true;
        }
        visit(&fields, &element, depth)?;
        depth += usize::from(is_open);
    }
    if has_root && depth == 0 {
        return Ok(());
    }
    let what = format!("the list ends before its </{root}>: it is cut short. Copy or make it again");
    Err(IoError::malformed(input.path, line_at(text.len() as u64), what))
}

/// The values of these attributes; absent and empty ones are `None`.
pub(super) fn attributes<const N: usize>(
    fields: &Fields<'_>,
    element: &BytesStart<'_>,
    names: [&str; N],
) -> Result<[Option<String>; N]> {
    let mut values = [const { None }; N];
    for attribute in element.attributes() {
        let attribute =
            attribute.map_err(|error| fields.wrong(format!("its attributes are not XML: {error}")))?;
        let Some(index) = names.iter().position(|&name| name == attribute.key.as_ref()) else {
            continue;
        };
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| fields.wrong(format!("the value of {} is not XML: {error}", names[index])))?;
        values[index] = present(&value).map(str::to_owned);
    }
    Ok(values)
}
