//! The backward pass: which gradients are needed, the buffers that they are added up in, and the instructions of each step.

use super::Scheduler;
use crate::arena::BufferId;
use crate::plan::{Activation, Form, Fused, Head, Instruction, Mask, Pass, Scheduled, Step};
use residual_graph::{NodeId, Op};

impl<'a> Scheduler<'a> {
    /// Begins the backward pass. Floats of values that are bf16 are computed again where it reads them: they would take twice
    /// the memory until then. So is the bf16 of values that are.
    pub(super) fn begin_backward(&mut self, kept: &[NodeId]) {
        self.pass = Pass::Backward;
        let kept: Vec<NodeId> = kept.iter().map(|id| self.source[id.0]).collect();
        for id in (0..self.graph.nodes.len()).map(NodeId).filter(|id| !kept.contains(id)) {
            self.in_floats[id.0] = None;
            if !self.stored[id.0] {
                self.in_bf16[id.0] = None;
            }
        }
    }

    /// The value of `node` in a form for the backward pass, recomputed if it was not stored.
    fn again(&mut self, node: NodeId, form: Form) -> BufferId {
        let node = self.source[node.0];
        if !self.stored[node.0] {
            // Missing inputs are recomputed first, in dependency order; iteratively, as recursion would overflow the stack
            // in deep networks.
            let mut pending = vec![node];
            while let Some(&node) = pending.last() {
                let step = self.step_of(node);
                if let Some(&missing) = step.inputs.iter().find(|&&input| !self.stored[self.source[input.0].0]) {
                    pending.push(self.source[missing.0]);
                    continue;
                }
                pending.pop();
                self.compute_again(step, node);
            }
        }
        self.read(node, form)
    }

    fn compute_again(&mut self, step: &Step, node: NodeId) {
        self.stored[node.0] = true;
        let form = self.reads(step);
        step.inputs.iter().for_each(|&input| _ = self.read(input, form));
        let y = self.allocate(node);
        self.values[node.0] = Some(y);
        self.allocate_index(step);
        for instruction in self.instructions(step, y, true) {
            self.backward.push(Scheduled::new(step.name(), Pass::Backward, instruction));
        }
    }

    fn emit_backward(&mut self, instruction: Instruction) {
        self.backward.push(Scheduled::new(self.current, Pass::Backward, instruction));
    }

    /// Marks the values whose gradient is needed: those that depend on a trained parameter, and those the caller reads.
    pub(super) fn find_gradients(&mut self, fused: &Fused, kept: &[NodeId]) {
        for id in kept {
            self.wanted[self.source[id.0].0] = true;
        }
        for step in &fused.steps {
            let trained = match step.head {
                Head::Sum(_) => false,
                Head::Node(node) => self.is_trained(node),
            };
            self.wanted[step.output.0] |= trained || step.inputs.iter().any(|id| self.wanted[id.0]);
        }
    }

    /// The form of the gradient of `node`: that of its value, or floats if the caller reads and seeds it.
    fn gradient_form(&self, node: NodeId) -> Form {
        if self.seeded[node.0] { Form::FLOATS } else { self.forms[node.0] }
    }

    /// The buffer for the caller's gradient of `node`.
    pub(super) fn seed(&mut self, node: NodeId) -> BufferId {
        let node = self.source[node.0];
        self.seeded[node.0] = true;
        if let Some(buffer) = self.gradients[node.0] {
            return buffer;
        }
        let buffer = self.allocate_in(node, Form::FLOATS);
        self.gradients[node.0] = Some(buffer);
        buffer
    }

    /// A buffer for the gradient of `node` in a form, and whether to accumulate into it. Once it is written, it has to be
    /// [delivered](Self::deliver).
    fn gradient(&mut self, node: NodeId, form: Form) -> (BufferId, bool) {
        if self.gradient_form(node) != form {
            return (self.allocate_in(node, form), false);
        }
        match self.gradients[node.0] {
            Some(buffer) => (buffer, true),
            None => {
                let buffer = self.allocate_in(node, form);
                self.gradients[node.0] = Some(buffer);
                (buffer, false)
            }
        }
    }

    /// Adds what was written to a buffer of [`gradient`](Self::gradient) to that of `node`, if it is not in the form of that.
    fn deliver(&mut self, buffer: BufferId, form: Form, node: NodeId) {
        let own = self.gradient_form(node);
        if own != form {
            let (y, accumulate) = self.gradient(node, own);
            self.emit_converted(buffer, form, node, accumulate, y);
        }
    }

    /// Converts a gradient of `node` from a form to the other.
    fn emit_converted(&mut self, x: BufferId, form: Form, node: NodeId, accumulate: bool, y: BufferId) {
        let channels = self.shapes[node.0].channels;
        self.emit_backward(match form {
            Form::BF16 => Instruction::Widen { channels, x, accumulate, y },
            _ => Instruction::Round { channels, x, accumulate, y },
        });
    }

    /// Adds the gradient in `buffer`, which has no other use, to that of `node`: the node takes over the buffer if it has
    /// none and its gradient has this form.
    fn hand_over(&mut self, buffer: BufferId, form: Form, node: NodeId) -> bool {
        if self.gradient_form(node) != form {
            self.deliver(buffer, form, node);
            return false;
        }
        match self.gradients[node.0] {
            Some(y) => {
                self.emit_backward(Instruction::Copy { elements: form.elements(), x: buffer, accumulate: true, y });
                false
            }
            None => {
                self.gradients[node.0] = Some(buffer);
                true
            }
        }
    }

    pub(super) fn backward(&mut self, step: &Step) {
        self.current = step.name();
        if !self.wanted[step.output.0] {
            return;
        }
        let Some(mut dy) = self.gradients[step.output.0] else {
            // No gradient reaches this step.
            let dy = self.allocate_in(step.output, self.gradient_form(step.output));
            self.emit_backward(Instruction::Zero { y: dy });
            self.gradients[step.output.0] = Some(dy);
            return self.backward(step);
        };
        let changes_dy =
            step.relu || step.add.is_some() || matches!(step.head, Head::Sum(_)) || self.runs_in_place(step);
        // The forms of what the step reads and of its value: of their gradients, too, while it is differentiated.
        let (form, form_of_value) = (self.reads(step), self.forms[step.output.0]);
        let own = self.gradient_form(step.output);
        if own != form_of_value {
            let converted = self.allocate_in(step.output, form_of_value);
            self.emit_converted(dy, own, step.output, false, converted);
            dy = converted;
        } else if self.seeded[step.output.0] && changes_dy {
            let copy = self.allocate_in(step.output, own);
            self.emit_backward(Instruction::Copy { elements: own.elements(), x: dy, accumulate: false, y: copy });
            dy = copy;
        }
        let elements = form.elements();
        let node = match &step.head {
            Head::Sum(inputs) => {
                if step.relu {
                    let y = self.again(step.output, form_of_value);
                    self.emit_backward(Instruction::ReluBackward { elements, y, dy });
                }
                let mut inputs: Vec<NodeId> = inputs.iter().copied().filter(|id| self.wanted[id.0]).collect();
                // The last one takes over the buffer.
                let last = inputs.pop();
                for input in inputs {
                    let (dx, accumulate) = self.gradient(input, form);
                    self.emit_backward(Instruction::Copy { elements, x: dy, accumulate, y: dx });
                    self.deliver(dx, form, input);
                }
                if let Some(last) = last {
                    self.hand_over(dy, form, last);
                }
                return;
            }
            Head::Node(node) => *node,
        };
        let input = self.input(node);
        match self.graph.node(node).op {
            Op::BatchNorm2d { .. } => {
                let norm = self.norm(node);
                let mask = match (step.relu, step.add) {
                    (false, _) => Mask::None,
                    (true, None) => Mask::Again,
                    (true, Some(_)) => Mask::Value(self.again(step.output, form)),
                };
                let x = self.again(input, form);
                let masked = mask == Mask::Again;
                self.emit_backward(Instruction::BatchNormSums { norm, elements, x, mask, dy });
                let given = self.add_gradient(step, dy, form);
                if self.wanted[input.0] {
                    let in_place = !given && self.gradients[input.0].is_none() && self.gradient_form(input) == form;
                    if in_place {
                        self.gradients[input.0] = Some(dy);
                    }
                    let (dx, accumulate) = if in_place { (dy, false) } else { self.gradient(input, form) };
                    self.emit_backward(Instruction::BatchNormData { norm, elements, masked, x, dy, accumulate, dx });
                    self.deliver(dx, form, input);
                }
            }
            Op::Conv2d(_) | Op::Linear { .. } => {
                let conv = self.conv(node);
                if step.relu {
                    let y = self.again(step.output, form_of_value);
                    self.emit_backward(Instruction::ReluBackward { elements, y, dy });
                }
                if self.is_trained(node) {
                    let x = self.again(input, form);
                    self.emit_backward(Instruction::ConvWeights { conv, x, dy });
                }
                if self.wanted[input.0] {
                    let (dx, accumulate) = self.gradient(input, form);
                    self.emit_backward(Instruction::ConvData { conv, dy, accumulate, dx });
                    self.deliver(dx, form, input);
                }
                self.add_gradient(step, dy, form);
            }
            Op::LayerNorm { .. } => {
                if !self.is_trained(node) && !self.wanted[input.0] {
                    return;
                }
                let norm = self.layer_norm(node);
                let x = self.again(input, form);
                // The kernel always writes dx while computing the parameters' gradients.
                let (dx, accumulate) = match self.wanted[input.0] {
                    true => self.gradient(input, form),
                    false => (self.allocate_in(input, form), false),
                };
                self.emit_backward(Instruction::LayerNormBackward { norm, x, dy, accumulate, dx });
                if self.wanted[input.0] {
                    self.deliver(dx, form, input);
                }
            }
            Op::LayerScale { .. } | Op::Gate => {
                if step.relu {
                    let y = self.again(step.output, form_of_value);
                    self.emit_backward(Instruction::ReluBackward { elements, y, dy });
                }
                self.factors_backward(node, dy);
                if self.wanted[input.0] {
                    if let Op::Gate = self.graph.node(node).op {
                        self.again(self.graph.node(node).inputs[1], Form::FLOATS);
                    }
                    let factors = self.factors(node);
                    let (dx, accumulate) = self.gradient(input, form);
                    self.emit_backward(Instruction::ScaleData { factors, dy, accumulate, dx });
                    self.deliver(dx, form, input);
                }
                self.add_gradient(step, dy, form);
            }
            _ if !self.wanted[input.0] && !matches!(self.graph.node(node).op, Op::Concat) => {}
            Op::Gelu => self.activate_backward(Activation::Gelu, input, dy, form, input),
            Op::Sigmoid => self.activate_backward(Activation::Sigmoid, step.output, dy, form, input),
            Op::Relu => {
                let y = self.again(step.output, form);
                self.emit_backward(Instruction::ReluBackward { elements, y, dy });
                self.hand_over(dy, form, input);
            }
            Op::MaxPool2d(_) => {
                self.again(step.output, form);
                let index = self.indices[node.0].expect("noted when the value was computed");
                let (pool, (dx, accumulate)) = (self.pooling(node), self.gradient(input, form));
                self.emit_backward(Instruction::MaxPoolBackward { pool, elements, index, dy, accumulate, dx });
                self.deliver(dx, form, input);
            }
            Op::AdaptiveAvgPool2d { .. } => {
                let (pool, (dx, accumulate)) = (self.adaptive(node), self.gradient(input, form));
                self.emit_backward(Instruction::AdaptiveAvgPoolBackward { pool, dy, accumulate, dx });
                self.deliver(dx, form, input);
            }
            Op::AvgPool2d { count_include_pad, .. } => {
                let (pool, (dx, accumulate)) = (self.pooling(node), self.gradient(input, form));
                self.emit_backward(Instruction::AvgPoolBackward { pool, count_include_pad, dy, accumulate, dx });
                self.deliver(dx, form, input);
            }
            Op::GlobalAvgPool => {
                let ((pixels, channels), (dx, accumulate)) = (self.pixels(node), self.gradient(input, form));
                self.emit_backward(Instruction::GlobalAvgPoolBackward {
                    elements,
                    pixels,
                    channels,
                    dy,
                    accumulate,
                    dx,
                });
                self.deliver(dx, form, input);
            }
            Op::Dropout { p } => {
                let (y, accumulate) = self.gradient(input, form);
                self.emit_backward(Instruction::Dropout { node: node.0, p, x: dy, accumulate, y });
                self.deliver(y, form, input);
            }
            Op::DropPath { p } => {
                let (y, accumulate) = self.gradient(input, form);
                self.emit_backward(Instruction::DropPath { node: node.0, p, x: dy, accumulate, y });
                self.deliver(y, form, input);
            }
            Op::Concat | Op::PadShortcut { .. } => {
                for (input, slice) in self.slices(node) {
                    if self.wanted[input.0] {
                        let (dx, accumulate) = self.gradient(input, form);
                        if !accumulate {
                            self.emit_backward(Instruction::Zero { y: dx });
                        }
                        self.emit_backward(Instruction::CopyChannelsBackward { elements, dy, slice, dx });
                        self.deliver(dx, form, input);
                    }
                }
            }
            Op::Quantize | Op::QuantizeDynamic => unreachable!("a plan with gradients has no bytes"),
            Op::Input { .. } | Op::Flatten | Op::Add => unreachable!("no step begins with these"),
        }
    }

    /// The gradient of the factors of a layer scale or gate.
    fn factors_backward(&mut self, node: NodeId, dy: BufferId) {
        let input = self.input(node);
        if let Op::LayerScale { .. } = self.graph.node(node).op {
            if self.is_trained(node) {
                let (scale, x) = (self.layer_scale(node), self.again(input, Form::FLOATS));
                self.emit_backward(Instruction::LayerScaleSums { scale, x, dy });
            }
            return;
        }
        let gate = self.source[self.graph.node(node).inputs[1].0];
        if self.wanted[gate.0] {
            let (channels, x) = (self.shapes[node.0].channels, self.again(input, Form::FLOATS));
            let (dgate, accumulate) = self.gradient(gate, Form::FLOATS);
            self.emit_backward(Instruction::GateSums { channels, x, dy, accumulate, dgate });
            self.deliver(dgate, Form::FLOATS, gate);
        }
    }

    /// Turns dy into the gradient of `input`, where that of an activation is a function of the value of `of`.
    fn activate_backward(&mut self, activation: Activation, of: NodeId, dy: BufferId, form: Form, input: NodeId) {
        let value = self.again(of, form);
        self.emit_backward(Instruction::ActivateBackward { activation, elements: form.elements(), value, dy });
        self.hand_over(dy, form, input);
    }

    /// Whether the backward pass of a step's main operation overwrites its dy.
    fn runs_in_place(&self, step: &Step) -> bool {
        match step.head {
            Head::Node(node) => {
                matches!(self.graph.node(node).op, Op::BatchNorm2d { .. } | Op::Relu | Op::Gelu | Op::Sigmoid)
            }
            Head::Sum(_) => true,
        }
    }

    /// Propagates dy to the addend; true if the addend took over the buffer.
    fn add_gradient(&mut self, step: &Step, dy: BufferId, form: Form) -> bool {
        match step.add {
            Some(add) if self.wanted[add.0] => self.hand_over(dy, form, add),
            _ => false,
        }
    }
}
