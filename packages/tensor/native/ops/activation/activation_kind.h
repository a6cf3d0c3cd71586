// Activation functions as the attribute `activation` of an op has them: the order of ACTIVATIONS in
// src/kernels/activation.ts.
#pragma once

enum class Activation : int { kRelu, kSigmoid, kTanh, kSilu, kGelu, kRelu2, kGeluTanh, kQuickGelu, kCount };
