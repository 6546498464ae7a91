//! Values on their way to a device and back.

use candle_core::{Device, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda::Pinned;

/// Copies values to a device and back. On a GPU nobody waits for it: copies go through memory that the system keeps in
/// its place, which is used again and again, and the GPU does them between its other work. On the processor nothing is
/// copied.
#[derive(Debug)]
pub struct Transfers {
    device: Device,
    #[cfg(feature = "cuda")]
    pinned: Option<Pinned>,
}

/// Values that may still be on their way from a device.
pub struct Download<T>(Box<dyn FnOnce() -> Result<Vec<T>> + Send>);

impl<T> std::fmt::Debug for Download<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Download")
    }
}

impl Transfers {
    /// Transfers to and from that device.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            pinned: Pinned::new(device),
        }
    }

    /// A new tensor of that shape on the device. `fill` puts its values where there are zeros.
    ///
    /// # Errors
    /// Those of `fill`; where the device has no memory left.
    pub fn upload<E: From<candle_core::Error>>(
        &self,
        shape: impl Into<Shape>,
        fill: impl FnOnce(&mut [f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Tensor, E> {
        let shape = shape.into();
        #[cfg(feature = "cuda")]
        if let Some(pinned) = &self.pinned {
            return pinned.upload(shape, fill);
        }
        let mut values = vec![0.0; shape.elem_count()];
        fill(&mut values)?;
        Ok(Tensor::from_vec(values, shape, &self.device)?)
    }

    /// A new tensor of that shape on the device, of values that are here.
    ///
    /// # Errors
    /// Where they are not as many as the shape says; where the device has no memory left.
    pub fn send_f32(&self, values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(pinned) = &self.pinned {
            return pinned.send_f32(&values, shape.into());
        }
        Tensor::from_vec(values, shape.into(), &self.device)
    }

    /// The same of u8.
    ///
    /// # Errors
    /// As [`Self::send_f32`].
    pub fn send_u8(&self, values: Vec<u8>, shape: impl Into<Shape>) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(pinned) = &self.pinned {
            return pinned.send_u8(&values, shape.into());
        }
        Tensor::from_vec(values, shape.into(), &self.device)
    }

    /// Begins to copy a contiguous tensor of u8 from the device.
    ///
    /// # Errors
    /// Where the tensor is another one, or the device fails.
    pub fn download_u8(&self, tensor: &Tensor) -> Result<Download<u8>> {
        #[cfg(feature = "cuda")]
        if let Some(pinned) = &self.pinned {
            let coming = pinned.download_u8(tensor)?;
            return Ok(Download(Box::new(|| coming.wait())));
        }
        Ok(Download::there(tensor.flatten_all()?.to_vec1()?))
    }

    /// Begins to copy a contiguous tensor of f32 from the device.
    ///
    /// # Errors
    /// As [`Self::download_u8`].
    pub fn download_f32(&self, tensor: &Tensor) -> Result<Download<f32>> {
        #[cfg(feature = "cuda")]
        if let Some(pinned) = &self.pinned {
            let coming = pinned.download_f32(tensor)?;
            return Ok(Download(Box::new(|| coming.wait())));
        }
        Ok(Download::there(tensor.flatten_all()?.to_vec1()?))
    }
}

impl<T: Send + 'static> Download<T> {
    fn there(values: Vec<T>) -> Self {
        Self(Box::new(|| Ok(values)))
    }

    /// The values, once they are there.
    ///
    /// # Errors
    /// Where the device failed meanwhile.
    pub fn wait(self) -> Result<Vec<T>> {
        (self.0)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_processor_values_are_there_at_once() {
        let transfers = Transfers::new(&Device::Cpu);
        let fill = |values: &mut [f32]| {
            assert!(values.iter().all(|value| *value == 0.0));
            values[4] = 5.0;
            candle_core::Result::Ok(())
        };
        let tensor = transfers.upload((1, 2, 3), fill).unwrap();
        let found = transfers.download_f32(&tensor).unwrap().wait().unwrap();
        assert_eq!(found, [0.0, 0.0, 0.0, 0.0, 5.0, 0.0]);
        let labels = Tensor::new(&[3_u8, 1], &Device::Cpu).unwrap();
        assert_eq!(transfers.download_u8(&labels).unwrap().wait().unwrap(), [3, 1]);
        assert!(transfers.download_u8(&tensor).is_err());
        assert!(transfers.send_u8(vec![1; 3], (2, 2)).is_err());
        let sent = transfers.send_f32(vec![1.5; 4], (2, 2)).unwrap();
        assert_eq!(sent.to_vec2::<f32>().unwrap(), [[1.5; 2]; 2]);
        let failed = transfers.upload((2, 2), |_| Err(candle_core::Error::Msg("no".to_owned())));
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }
}
