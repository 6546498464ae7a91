//! Rows of directions, gains and means against candle's own operations, and their gradients.

use candle_conv3d::{StandardisedRows, standardise_rows, standardise_rows_gradients};
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::problems::{difference, random};

/// The rows by candle's operations on small tensors.
fn plain(directions: &Tensor, gains: &Tensor, means: &Tensor, identity: Option<usize>) -> Result<Tensor> {
    let (rows, values) = directions.dims2()?;
    let centred = directions.broadcast_sub(&directions.mean_keepdim(1)?)?;
    let length = (centred.sqr()?.sum_keepdim(1)? + 1e-12)?.sqrt()?;
    let all = centred
        .broadcast_mul(&(gains / length)?)?
        .broadcast_add(&(means / (values as f64).sqrt())?)?;
    let Some(block) = identity else {
        return Ok(all);
    };
    let one = |index: usize| {
        let (row, value) = (index / values, index % values);
        f32::from(u8::from(value == row * block + block / 2))
    };
    let ones: Vec<f32> = (0..rows * values).map(one).collect();
    all + Tensor::from_vec(ones, (rows, values), directions.device())?
}

#[test]
fn rows_and_their_gradients_are_those_of_plain_operations() -> Result<()> {
    let shapes = [
        (4, 27, None),
        (6, 48, Some(8)),
        (48, 48 * 27, Some(27)),
        (3, 2, None),
    ];
    let mut parts = Vec::new();
    for (seed, (rows, values, identity)) in (0..).zip(shapes) {
        let part = |dims: &[usize], part: u64| Var::from_tensor(&random(dims, 10 * seed + part, DType::F32)?);
        let of = [
            part(&[rows, values], 1)?,
            part(&[rows, 1], 2)?,
            part(&[rows, 1], 3)?,
        ];
        let gradient = random(&[rows, values], 10 * seed + 4, DType::F32)?;
        let made = Tensor::full(f32::NAN, (rows, values), &Device::Cpu)?;
        parts.push((of, gradient, made, identity));
    }
    let (mut rows, mut of_rows) = (Vec::new(), Vec::new());
    for ([directions, gains, means], gradient, made, identity) in &parts {
        let of = StandardisedRows {
            directions,
            gains,
            means,
            identity: *identity,
        };
        rows.push((of, made));
        of_rows.push((of, gradient));
    }
    standardise_rows(&rows)?;
    let found = standardise_rows_gradients(&of_rows)?;
    for ((of, gradient, made, identity), found) in parts.iter().zip(found) {
        let [directions, gains, means] = of;
        let expected = plain(directions, gains, means, *identity)?;
        assert!(difference(made, &expected)? < 1e-6);
        let gradients = (expected * gradient)?.sum_all()?.backward()?;
        for (variable, found) in of.iter().zip([found.directions, found.gains, found.means]) {
            let expected = gradients.get(variable).expect("a gradient");
            assert_eq!(found.dims(), expected.dims());
            let off = difference(&found, expected)?;
            assert!(off < 1e-5, "{off}");
        }
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
    let (directions, gains, rows) = (zeros(&[3, 27])?, zeros(&[3, 1])?, zeros(&[3, 3, 3, 3])?);
    let parts = StandardisedRows {
        directions: &directions,
        gains: &gains,
        means: &gains,
        identity: Some(9),
    };
    standardise_rows(&[(parts, &rows)])?;
    let refused = |parts: StandardisedRows<'_>, rows: &Tensor| {
        assert!(standardise_rows(&[(parts, rows)]).is_err());
        assert!(standardise_rows_gradients(&[(parts, rows)]).is_err());
    };
    refused(parts, &zeros(&[3, 3, 3, 2])?);
    refused(parts, &zeros(&[27, 3])?.t()?);
    refused(parts, &rows.to_dtype(DType::F64)?);
    let few = zeros(&[2, 1])?;
    refused(StandardisedRows { gains: &few, ..parts }, &rows);
    refused(StandardisedRows { means: &few, ..parts }, &rows);
    let identity = Some(27);
    refused(StandardisedRows { identity, ..parts }, &rows);
    // The rows cannot be where the directions are.
    assert!(standardise_rows(&[(parts, &directions)]).is_err());
    Ok(())
}
