use std::io::BufWriter;

use font8x8::UnicodeFonts;

use crate::{PipelineError, Result};

/// Red, green, blue.
pub(crate) type Colour = [u8; 3];

/// Colours of classes 1, 2, …: distinct to colour-blind eyes (Okabe and Ito), repeated after eight.
const CLASS_COLOURS: [Colour; 8] = [
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
    [170, 255, 120],
];

pub(crate) fn class_colour(label: u8) -> Colour {
    CLASS_COLOURS[usize::from(label.wrapping_sub(1)) % CLASS_COLOURS.len()]
}

/// A picture in memory.
pub(crate) struct Canvas {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    pub(crate) fn new(width: usize, height: usize, background: Colour) -> Self {
        Self {
            width,
            height,
            pixels: background.repeat(width * height),
        }
    }

    /// Sets a pixel; outside the picture nothing happens.
    pub(crate) fn set(&mut self, x: i64, y: i64, colour: Colour) {
        if let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y))
            && x < self.width
            && y < self.height
        {
            let at = 3 * (y * self.width + x);
            self.pixels[at..at + 3].copy_from_slice(&colour);
        }
    }

    /// A ring of one pixel and a half around a centre.
    pub(crate) fn ring(&mut self, centre: [f64; 2], radius: f64, colour: Colour) {
        let steps = (8.0 * radius).max(16.0) as usize;
        for step in 0..steps {
            let (sin, cos) = (std::f64::consts::TAU * step as f64 / steps as f64).sin_cos();
            for r in [radius, radius - 0.7] {
                self.set(
                    (centre[0] + r * cos).round() as i64,
                    (centre[1] + r * sin).round() as i64,
                    colour,
                );
            }
        }
    }

    /// A filled rectangle.
    pub(crate) fn fill(&mut self, [x, y]: [i64; 2], [width, height]: [i64; 2], colour: Colour) {
        for y in y..y + height {
            for x in x..x + width {
                self.set(x, y, colour);
            }
        }
    }

    /// A line of text in 8 × 8 letters; unknown letters are left blank.
    pub(crate) fn text(&mut self, [x, y]: [i64; 2], text: &str, colour: Colour) {
        for (i, letter) in text.chars().enumerate() {
            let rows = font8x8::BASIC_FONTS
                .get(letter)
                .or_else(|| font8x8::LATIN_FONTS.get(letter))
                .unwrap_or_default();
            for (dy, row) in rows.iter().enumerate() {
                for dx in (0..8).filter(|dx| row >> dx & 1 == 1) {
                    self.set(x + 8 * i as i64 + dx, y + dy as i64, colour);
                }
            }
        }
    }

    /// The picture as a PNG file's bytes.
    pub(crate) fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder =
            png::Encoder::new(BufWriter::new(&mut bytes), self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.pixels))
            .map_err(|error| PipelineError::input(format!("the picture cannot be encoded: {error}")))?;
        Ok(bytes)
    }
}
