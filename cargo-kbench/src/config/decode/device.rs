//! Properties of the device in the expressions of a kernel.

use std::cell::Cell;

use super::super::DeviceModel;
use super::names::SM_COUNT;
use crate::expr::{Expr, Value};

/// The device for a kernel's expressions.
pub(super) struct Device {
    model: DeviceModel,
    /// Whether the kernel runs on a GPU.
    is_gpu: bool,
    /// Whether an expression named a property that differs between devices.
    used: Cell<bool>,
}

impl Device {
    pub(super) fn new(model: DeviceModel, is_gpu: bool) -> Self {
        Self { model, is_gpu, used: Cell::new(false) }
    }

    /// The value of a property of the device; `None` for another name.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        let value = self.model.value(name).filter(|_| self.is_gpu)?;
        if name != "WARP" {
            self.used.set(true);
        }
        Some(value)
    }

    /// An expression with the values of this device. Names of the kernel remain, and so does `SM_COUNT` if `is_grid`
    /// says that the launch provides it.
    pub(super) fn bind(&self, expr: &Expr, is_own: &dyn Fn(&str) -> bool, is_grid: bool) -> Expr {
        expr.bound(&|name| if is_own(name) || is_grid && name == SM_COUNT { None } else { self.value(name) })
    }

    /// The device, if an expression depends on it.
    pub(super) fn into_model(self) -> Option<DeviceModel> {
        Some(self.model).filter(|_| self.used.get())
    }
}
