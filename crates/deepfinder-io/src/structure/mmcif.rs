//! mmCIF: the syntax of CIF 1.1 (<https://www.iucr.org/resources/cif/spec/version1.1/cifsyntax>) with the items of
//! `PDBx` (<https://mmcif.wwpdb.org>). Of the first data block, three categories are looked at.

use std::collections::HashMap;

use deepfinder_core::Atom;

use super::assembly::{Model, Part, Recipe, Transform};
use super::elements::atomic_weight;
use super::{Fault, is_water};

const ATOMS: &str = "_atom_site.";
const COPIES: &str = "_pdbx_struct_assembly_gen.";
const OPERATORS: &str = "_pdbx_struct_oper_list.";

/// Most copies that one expression may ask for.
const MOST_COPIES: usize = 100_000;

pub(super) fn parse(text: &str) -> Result<Model, Fault> {
    let mut model = Model::default();
    let mut operators = HashMap::new();
    let mut copies = Vec::new();
    let mut reader = Tokens::new(text);
    let mut only_model = None;
    rows(&mut reader, &mut |category, row| {
        match category {
            ATOMS => atom(&mut model, &mut only_model, row)?,
            OPERATORS => {
                operators.insert(row.text("id")?.to_owned(), operator(row)?);
            }
            COPIES => copies.push((
                row.line,
                ["assembly_id", "oper_expression", "asym_id_list"]
                    .map(|item| row.text(item).map(str::to_owned)),
            )),
            _ => {}
        }
        Ok(())
    })?;
    // Operators may stand behind the expressions that name them.
    for (line, [name, expression, chains]) in copies {
        let (name, expression, chains) = (name?, expression?, chains?);
        let part = Part {
            chains: chains.split(',').map(|chain| chain.trim().to_owned()).collect(),
            copies: expand(&expression, &operators).map_err(|what| Fault::new(line, what))?,
        };
        match model.assemblies.iter_mut().find(|recipe| recipe.name == name) {
            Some(recipe) => recipe.parts.push(part),
            None => model.assemblies.push(Recipe {
                name,
                parts: vec![part],
            }),
        }
    }
    Ok(model)
}

fn atom(model: &mut Model, only_model: &mut Option<String>, row: &Row<'_>) -> Result<(), Fault> {
    let number_of_model = row.optional("pdbx_PDB_model_num").unwrap_or("1");
    let first = only_model.get_or_insert_with(|| number_of_model.to_owned());
    if first != number_of_model || row.optional("label_comp_id").is_some_and(is_water) {
        return Ok(());
    }
    let occupancy = match row.optional("occupancy") {
        None => 1.0,
        Some(_) => row.number("occupancy")?,
    };
    let weight = atomic_weight(row.text("type_symbol")?).map_err(|what| Fault::new(row.line, what))?;
    let atom = Atom {
        position_angstrom: [
            row.number("Cartn_x")?,
            row.number("Cartn_y")?,
            row.number("Cartn_z")?,
        ],
        mass_dalton: occupancy * weight,
    };
    let chain = model.chain(row.text("label_asym_id")?);
    model.atoms.push((chain, atom));
    Ok(())
}

fn operator(row: &Row<'_>) -> Result<Transform, Fault> {
    let mut transform = Transform::IDENTITY;
    for i in 0..3 {
        for j in 0..3 {
            transform.matrix[i][j] = row.number(&format!("matrix[{}][{}]", i + 1, j + 1))?;
        }
        transform.shift[i] = row.number(&format!("vector[{}]", i + 1))?;
    }
    Ok(transform)
}

/// The transforms of an operator expression: `1`, `1,3`, `1-60`, `(1-60)`, `(1,2)(P)`; of several groups in brackets the
/// last is applied first.
fn expand(expression: &str, operators: &HashMap<String, Transform>) -> Result<Vec<Transform>, String> {
    let wrong = || format!("`{expression}` is no expression of operators, as 1,2 or (1-60)(61)");
    let groups: Vec<&str> = if let Some(inner) = expression.strip_prefix('(') {
        inner.strip_suffix(')').ok_or_else(wrong)?.split(")(").collect()
    } else {
        vec![expression]
    };
    let mut all = vec![Transform::IDENTITY];
    for group in groups {
        let mut names = Vec::new();
        for name in group.split(',').map(str::trim) {
            match name.split_once('-') {
                Some((first, last)) => {
                    let (first, last): (usize, usize) =
                        first.parse().ok().zip(last.parse().ok()).ok_or_else(wrong)?;
                    if first > last || last - first >= MOST_COPIES {
                        return Err(wrong());
                    }
                    names.extend((first..=last).map(|number| number.to_string()));
                }
                None => names.push(name.to_owned()),
            }
        }
        let found = names.iter().map(|name| {
            operators.get(name).ok_or_else(|| {
                format!("`{expression}` asks for the operator `{name}`, which the file does not have")
            })
        });
        let found: Vec<&Transform> = found.collect::<Result<_, _>>()?;
        if all.len().saturating_mul(found.len()) > MOST_COPIES {
            return Err(format!("`{expression}` asks for more than {MOST_COPIES} copies"));
        }
        all = all
            .iter()
            .flat_map(|outer| found.iter().map(|inner| outer.after(inner)))
            .collect();
    }
    Ok(all)
}

/// A row of a category: of its loop, or the only one.
struct Row<'a> {
    line: usize,
    category: &'a str,
    items: &'a [&'a str],
    values: &'a [&'a str],
}

impl Row<'_> {
    /// A value; `None` where the item is missing or its value unknown or not applicable.
    fn optional(&self, item: &str) -> Option<&str> {
        let place = self
            .items
            .iter()
            .position(|known| known[self.category.len()..].eq_ignore_ascii_case(item))?;
        let value = *self.values.get(place)?;
        (!matches!(value, "." | "?")).then_some(value)
    }

    fn text(&self, item: &str) -> Result<&str, Fault> {
        self.optional(item)
            .ok_or_else(|| Fault::new(self.line, format!("there is no {}{item}", self.category)))
    }

    fn number(&self, item: &str) -> Result<f64, Fault> {
        let text = self.text(item)?;
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
        value.ok_or_else(|| {
            Fault::new(
                self.line,
                format!("{}{item} is `{text}`, which is no number", self.category),
            )
        })
    }
}

/// The category of an item, with its dot, where we look at it.
fn category_of(item: &str) -> Option<&'static str> {
    [ATOMS, COPIES, OPERATORS].into_iter().find(|category| {
        item.get(..category.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(category))
    })
}

/// Calls `visit` with the rows of our categories in the first data block.
fn rows<'a>(
    tokens: &mut Tokens<'a>,
    visit: &mut dyn FnMut(&'static str, &Row<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut blocks = 0;
    // Items outside of loops: one row, given when all is read.
    let mut single: Vec<(&'a str, &'a str, usize)> = Vec::new();
    let mut next = tokens.next_token()?;
    while let Some(token) = next {
        match token.kind {
            Kind::Loop => {
                let mut items = Vec::new();
                next = tokens.next_token()?;
                while let Some(name) = next.filter(|token| token.kind == Kind::Name) {
                    items.push(name.text);
                    next = tokens.next_token()?;
                }
                let category = items.first().and_then(|item| category_of(item));
                if let Some(category) = category
                    && !items.iter().all(|item| category_of(item) == Some(category))
                {
                    return Err(Fault::new(token.line, "a loop mixes several categories"));
                }
                let mut values = Vec::with_capacity(items.len());
                let mut line = token.line;
                while let Some(value) = next.filter(|token| token.kind == Kind::Value) {
                    if values.is_empty() {
                        line = value.line;
                    }
                    values.push(value.text);
                    if values.len() == items.len() {
                        if let Some(category) = category {
                            let (items, values) = (&items, &values);
                            visit(
                                category,
                                &Row {
                                    line,
                                    category,
                                    items,
                                    values,
                                },
                            )?;
                        }
                        values.clear();
                    }
                    next = tokens.next_token()?;
                }
                if !values.is_empty() {
                    let what = format!(
                        "a row of {} values in a loop of {} items",
                        values.len(),
                        items.len()
                    );
                    return Err(Fault::new(line, what));
                }
                continue;
            }
            Kind::Name => {
                let value = tokens.next_token()?.filter(|value| value.kind == Kind::Value);
                let Some(value) = value else {
                    return Err(Fault::new(token.line, format!("{} has no value", token.text)));
                };
                single.push((token.text, value.text, value.line));
            }
            Kind::Block => {
                blocks += 1;
                if blocks > 1 {
                    break;
                }
            }
            Kind::Value => {
                return Err(Fault::new(
                    token.line,
                    format!("`{}` stands alone: a value needs a name", shortened(token.text)),
                ));
            }
        }
        next = tokens.next_token()?;
    }
    for category in [ATOMS, COPIES, OPERATORS] {
        let own = single
            .iter()
            .filter(|(item, ..)| category_of(item) == Some(category));
        let (items, values): (Vec<&str>, Vec<&str>) =
            own.clone().map(|(item, value, _)| (*item, *value)).unzip();
        if let Some((_, _, line)) = own.clone().next() {
            let (items, values) = (&items, &values);
            visit(
                category,
                &Row {
                    line: *line,
                    category,
                    items,
                    values,
                },
            )?;
        }
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Loop,
    Name,
    Value,
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    line: usize,
}

/// The words of a file.
struct Tokens<'a> {
    text: &'a str,
    /// Next byte to look at.
    at: usize,
    line: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text: text.trim_start_matches('\u{feff}'),
            at: 0,
            line: 1,
        }
    }

    fn next_token(&mut self) -> Result<Option<Token<'a>>, Fault> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b'#' => self.at += self.until_newline(),
                _ if byte.is_ascii_whitespace() => self.at += 1,
                _ => break,
            }
        }
        let Some(&first) = bytes.get(self.at) else {
            return Ok(None);
        };
        let line = self.line;
        let begins_line = self.at == 0 || bytes[self.at - 1] == b'\n';
        let value = |text| {
            Some(Token {
                kind: Kind::Value,
                text,
                line,
            })
        };
        if first == b';' && begins_line {
            let start = self.at + 1;
            let Some(length) = self.text[start..].find("\n;") else {
                return Err(Fault::new(line, "a text that begins with `;` never ends"));
            };
            let text = &self.text[start..start + length];
            self.at = start + length + 2;
            self.line += text.matches('\n').count() + 1;
            return Ok(value(text));
        }
        if matches!(first, b'\'' | b'"') {
            // A quote ends only before a space: 'O5'' is O5'.
            let start = self.at + 1;
            let rest = &bytes[start..start + self.until_newline() - 1];
            let ends = |i: usize| rest[i] == first && rest.get(i + 1).is_none_or(u8::is_ascii_whitespace);
            let Some(length) = (0..rest.len()).find(|&i| ends(i)) else {
                return Err(Fault::new(line, "a quoted value never ends"));
            };
            self.at = start + length + 1;
            return Ok(value(&self.text[start..start + length]));
        }
        let length = bytes[self.at..].iter().position(u8::is_ascii_whitespace);
        let end = length.map_or(bytes.len(), |length| self.at + length);
        let text = &self.text[self.at..end];
        self.at = end;
        let starts = |prefix: &str| {
            text.get(..prefix.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        };
        let kind = if text.starts_with('_') {
            Kind::Name
        } else if text.eq_ignore_ascii_case("loop_") {
            Kind::Loop
        } else if starts("data_") {
            Kind::Block
        } else {
            Kind::Value
        };
        Ok(Some(Token { kind, text, line }))
    }

    /// Bytes from here to the end of the line.
    fn until_newline(&self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
    }
}
