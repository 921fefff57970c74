//! What the expressions of a kernel may know of its device.

use std::cell::Cell;

use super::super::DeviceModel;
use super::names::SM_COUNT;
use crate::expr::{Expr, Value};

/// The device that a kernel's expressions are read for.
pub(super) struct Device {
    model: DeviceModel,
    /// Whether the kernel runs on a GPU.
    is_gpu: bool,
    /// Whether a name was read that other devices have other values of.
    used: Cell<bool>,
}

impl Device {
    pub(super) fn new(model: DeviceModel, is_gpu: bool) -> Self {
        Self { model, is_gpu, used: Cell::new(false) }
    }

    /// The value of a name of the device; `None` where it is another name.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        let value = self.model.value(name).filter(|_| self.is_gpu)?;
        if name != "WARP" {
            self.used.set(true);
        }
        Some(value)
    }

    /// An expression with the values of this device; names that are the kernel's own are left, and `SM_COUNT` where `is_grid` says that the
    /// launch knows it.
    pub(super) fn bind(&self, expr: &Expr, is_own: &dyn Fn(&str) -> bool, is_grid: bool) -> Expr {
        expr.bound(&|name| if is_own(name) || is_grid && name == SM_COUNT { None } else { self.value(name) })
    }

    /// The device, if an expression depends on it.
    pub(super) fn into_model(self) -> Option<DeviceModel> {
        Some(self.model).filter(|_| self.used.get())
    }
}
