//! PDB format 3.3, <https://www.wwpdb.org/documentation/file-format-content/format33/v3.3.html>: fixed columns, counted
//! from 1 in the specification.

use deepfinder_core::Atom;

use super::assembly::{Model, Part, Recipe, Transform};
use super::elements::atomic_weight;
use super::{Fault, is_water};

pub(super) fn parse(text: &str) -> Result<Model, Fault> {
    let mut model = Model::default();
    let mut in_first_model = true;
    for (index, line) in text.lines().enumerate() {
        let fault = |what: String| Fault::new(index + 1, what);
        match columns(line, 1, 6) {
            "ATOM" | "HETATM" if in_first_model => {
                if is_water(columns(line, 18, 20)) {
                    continue;
                }
                let number = |name: &str, first, last| {
                    let field = columns(line, first, last);
                    let value = field.parse::<f64>().ok().filter(|value| value.is_finite());
                    value.ok_or_else(|| {
                        fault(format!(
                            "{name} in columns {first} to {last} is `{field}`, which is no number"
                        ))
                    })
                };
                let position_angstrom = [number("x", 31, 38)?, number("y", 39, 46)?, number("z", 47, 54)?];
                let occupancy = match columns(line, 55, 60) {
                    "" => 1.0,
                    _ => number("the occupancy", 55, 60)?,
                };
                let weight = atomic_weight(element(line)).map_err(fault)?;
                let chain = model.chain(columns(line, 22, 22));
                let atom = Atom {
                    position_angstrom,
                    mass_dalton: occupancy * weight,
                };
                model.atoms.push((chain, atom));
            }
            "ENDMDL" => in_first_model = false,
            "REMARK" if columns(line, 8, 10) == "350" => {
                remark_350(&mut model.assemblies, line.get(10..).unwrap_or("")).map_err(fault)?;
            }
            _ => {}
        }
    }
    for recipe in &mut model.assemblies {
        recipe.parts.retain(|part| !part.copies.is_empty());
    }
    model.assemblies.retain(|recipe| !recipe.parts.is_empty());
    Ok(model)
}

/// The text in columns, counted from 1, without spaces around it.
fn columns(line: &str, first: usize, last: usize) -> &str {
    let end = last.min(line.len());
    line.get(first - 1..end).unwrap_or("").trim()
}

/// The element in columns 77 and 78, or in old files that of the atom's name.
fn element(line: &str) -> &str {
    let symbol = columns(line, 77, 78);
    if !symbol.is_empty() {
        return symbol;
    }
    // A name of four characters begins with hydrogen's count or symbol, all others have their element in two columns.
    let name = columns(line, 13, 14);
    let name = name.trim_start_matches(|c: char| c.is_ascii_digit());
    if name.starts_with('H') { "H" } else { name }
}

/// A line of the remark on assemblies, from column 11.
fn remark_350(assemblies: &mut Vec<Recipe>, text: &str) -> Result<(), String> {
    let text = text.trim();
    if let Some(name) = text.strip_prefix("BIOMOLECULE:") {
        assemblies.push(Recipe {
            name: name.trim().to_owned(),
            parts: Vec::new(),
        });
        return Ok(());
    }
    let Some(recipe) = assemblies.last_mut() else {
        return Ok(());
    };
    let chains = |text: &str| -> Vec<String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    if let Some(names) = text.strip_prefix("APPLY THE FOLLOWING TO CHAINS:") {
        recipe.parts.push(Part {
            chains: chains(names),
            copies: Vec::new(),
        });
    } else if let (Some(names), Some(part)) = (text.strip_prefix("AND CHAINS:"), recipe.parts.last_mut()) {
        part.chains.extend(chains(names));
    } else if let Some(row) = text.strip_prefix("BIOMT") {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let [row, _, numbers @ ..] = fields.as_slice() else {
            return Err(format!("`{text}` is cut short"));
        };
        let numbers: Option<Vec<f64>> = numbers.iter().map(|number| number.parse().ok()).collect();
        let Some([a, b, c, shift]) = numbers.as_deref() else {
            return Err(format!("`{text}` must hold four numbers behind its own"));
        };
        let row = match *row {
            "1" => 0,
            "2" => 1,
            "3" => 2,
            other => return Err(format!("there is no row {other} in a matrix of three")),
        };
        let Some(part) = recipe.parts.last_mut() else {
            return Err(format!("`{text}` comes before the chains that it moves"));
        };
        if row == 0 {
            part.copies.push(Transform::IDENTITY);
        }
        let Some(copy) = part.copies.last_mut() else {
            return Err(format!("`{text}` comes before its first row"));
        };
        copy.matrix[row] = [*a, *b, *c];
        copy.shift[row] = *shift;
    }
    Ok(())
}
