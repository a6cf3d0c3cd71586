// Frozen weights W [out, in] in a product with the matrix of an adapter: see adapted_product_cuda.cc. The matrix lies
// in padding, beyond the columns of W where in < out, else below its rows.
#pragma once

#include <algorithm>

#include "cuda/host/launch.h"
#include "cuda/host/move.h"
#include "ops/product/multiply.h"
#include "ops/quantized/packed_operands.h"
#include "ops/quantized/quantized_box.h"

namespace lorasmith::cuda {

// Of what decodes a rectangle of weights in 4 or 8 bits to memory for a product: dequantize.cu.
constexpr unsigned kDecodeThreads = 256;
constexpr int64_t kMostDecodeBlocks = 1 << 16;

struct DecodedPart {
  int64_t first_row;
  int64_t rows;
  int64_t first_column;
  int64_t width;
  // Numbers from a row of the memory to the next; 0: the width.
  int64_t pitch = 0;

  // Blocks of threads that each decode one number, or several.
  int64_t Blocks(bool whole) const {
    return std::min(kMostDecodeBlocks, DivideUp(rows * width / (whole ? kDecodedAtOnce : 1), kDecodeThreads));
  }
  bool IsWhole() const {
    return first_column % kDecodedAtOnce == 0 && width % kDecodedAtOnce == 0 && pitch % kDecodedAtOnce == 0;
  }
};

// → [rows, pitch], of which the first `width` columns are written.
template <typename Number>
void DecodePart(Context& context, const QuantizedMatrix& matrix, const DecodedPart& part, Number* result);
template <typename Number>
void DecodePart(Context& context, const ScaledMatrix& matrix, const DecodedPart& part, Number* result);

template <typename Number>
constexpr TF_DataType kType = std::is_same_v<Number, float> ? TF_FLOAT : TF_BFLOAT16;

// The most ranks that padding has room for, each rounded up: PADDING of src/kernels/adapted-product.ts.
constexpr int64_t kPadding = 64;

enum class FrozenProduct {
  kNone,      // the adapter's own products alone
  kForward,   // a [rows, in] · Wᵀ
  kBackward,  // a [rows, out] · W
};

// Where the matrix of an adapter is made: [out, columns] or [columns, in], with `stride` numbers from row to row.
template <typename Number>
struct AdapterMatrix {
  Number* at = nullptr;
  int64_t stride = 0;
};

// Weights in memory, which has the padding.
template <typename Number>
class StoredWeight {
 public:
  static constexpr int kInputs = 1;
  struct Form {
    explicit Form(const Attributes&) {}
  };

  StoredWeight(Context& context, const Form&, int input, int64_t in, int64_t out)
      : pitch_(context.Dim(input, 1)), has_columns_(context.Dim(input, 0) == out) {
    const int64_t padding = has_columns_ ? pitch_ - in : context.Dim(input, 0) - out;
    const bool fits = padding >= kPadding && (has_columns_ || pitch_ == in);
    if (!context.Check(fits, "the weights must have padding for the adapter")) return;
    at_ = const_cast<Number*>(context.Input<Number>(input));
    matrix_ = {has_columns_ ? at_ + in : at_ + out * in, pitch_};
  }

  bool has_columns() const { return has_columns_; }

  AdapterMatrix<Number> MatrixFor(Context&, FrozenProduct, int64_t) { return matrix_; }

  // a [rows, depth] times the weights with their padding, of which the side that is no depth has `width` numbers.
  void Multiply(Context& context, const Number* a, int64_t rows, int64_t depth, int64_t width, Number* result,
                FrozenProduct product) const {
    Product dense;
    dense.type = kType<Number>;
    dense.rows = rows;
    dense.depth = depth;
    dense.columns = width;
    dense.transpose_b = product == FrozenProduct::kForward;
    dense.b_stride = pitch_;
    cuda::Multiply(context, dense, a, at_, nullptr, result);
  }

 private:
  int64_t pitch_;
  bool has_columns_;
  Number* at_ = nullptr;
  AdapterMatrix<Number> matrix_;
};

// Weights in 4 or 8 bits, decoded to memory with padding: all at a time, or in pieces of the side that is no depth. A
// longer depth has its part of the matrix in each piece; a wider side has the whole matrix in the last one.
template <typename Packed, typename Number>
class DecodedWeight {
 public:
  static constexpr int kInputs = Packed::kInputs;
  struct Form {
    explicit Form(const Attributes& attributes)
        : packed(attributes), most_decoded(attributes.Int("most_decoded_bytes")) {}

    Packed packed;
    int64_t most_decoded;
  };

  DecodedWeight(Context& context, const Form& form, int input, int64_t in, int64_t out)
      : weights_(form.packed.Operand(context, input, out, in)),
        most_decoded_(form.most_decoded),
        in_(in),
        out_(out),
        has_columns_(in < out) {}

  bool has_columns() const { return has_columns_; }

  // Where all are decoded at a time, the matrix is made beside them; else its parts are copied there.
  AdapterMatrix<Number> MatrixFor(Context& context, FrozenProduct product, int64_t columns) {
    columns_ = columns;
    if (product != FrozenProduct::kNone) {
      const bool forward = product == FrozenProduct::kForward;
      const int64_t side = forward ? out_ : in_;
      const int64_t wider = forward == has_columns_ ? 0 : kPadding;
      const int64_t depth = (forward ? in_ : out_) + kPadding - wider;
      const int64_t fitting = most_decoded_ / (depth * static_cast<int64_t>(sizeof(Number))) - wider;
      piece_ = std::min(side, std::max(kQuantizedBlock, fitting / kQuantizedBlock * kQuantizedBlock));
      decoded_ = context.Scratch<Number>((piece_ + wider) * depth);
      decodes_all_ = piece_ == side;
    }
    if (decodes_all_) {
      matrix_ = has_columns_ ? AdapterMatrix<Number>{decoded_ + in_, in_ + kPadding}
                             : AdapterMatrix<Number>{decoded_ + out_ * in_, in_};
    } else {
      const int64_t numbers = columns * (has_columns_ ? out_ : in_);
      matrix_ = {context.Scratch<Number>(numbers), has_columns_ ? columns : in_};
    }
    return matrix_;
  }

  void Multiply(Context& context, const Number* a, int64_t rows, int64_t depth, int64_t width, Number* result,
                FrozenProduct product) const {
    Product dense;
    dense.type = kType<Number>;
    dense.rows = rows;
    dense.depth = depth;
    dense.transpose_b = product == FrozenProduct::kForward;
    dense.result_stride = width;
    const int64_t side = dense.transpose_b ? out_ : in_;
    for (int64_t first = 0; first < side; first += piece_) {
      const int64_t own = std::min(piece_, side - first);
      const bool is_last = first + own == side;
      dense.b_stride =
          dense.transpose_b ? DecodeRows(context, first, own, is_last) : DecodeColumns(context, first, own, is_last);
      dense.columns = own + (is_last ? width - side : 0);
      cuda::Multiply(context, dense, a, decoded_, nullptr, result + first);
    }
  }

 private:
  // Both return the numbers from a row of the decoded weights to the next.
  int64_t DecodeRows(Context& context, int64_t first, int64_t rows, bool is_last) const {
    const int64_t pitch = has_columns_ ? in_ + kPadding : in_;
    DecodePart(context, weights_, DecodedPart{first, rows, 0, in_, pitch}, decoded_);
    if (has_columns_) {
      CopyMatrix(context, matrix_.at + first * matrix_.stride, decoded_ + in_, pitch, rows, columns_);
    } else if (is_last) {
      CopyMatrix(context, matrix_.at, decoded_ + rows * in_, pitch, columns_, in_);
    }
    return pitch;
  }

  int64_t DecodeColumns(Context& context, int64_t first, int64_t width, bool is_last) const {
    const int64_t pitch = has_columns_ && is_last ? width + kPadding : width;
    DecodePart(context, weights_, DecodedPart{0, out_, first, width, pitch}, decoded_);
    if (!has_columns_) {
      CopyMatrix(context, matrix_.at + first, decoded_ + out_ * width, pitch, columns_, width);
    } else if (is_last) {
      CopyMatrix(context, matrix_.at, decoded_ + width, pitch, out_, columns_);
    }
    return pitch;
  }

  void CopyMatrix(Context& context, const Number* from, Number* to, int64_t stride, int64_t rows,
                  int64_t columns) const {
    if (!decodes_all_) CopyColumns(context, from, matrix_.stride, to, stride, rows, columns);
  }

  typename Packed::Matrix weights_;
  int64_t most_decoded_;
  int64_t in_;
  int64_t out_;
  bool has_columns_;
  int64_t columns_ = 0;
  int64_t piece_ = 0;
  Number* decoded_ = nullptr;
  // Whether all weights are decoded at a time, with the matrix in their padding.
  bool decodes_all_ = false;
  AdapterMatrix<Number> matrix_;
};

}  // namespace lorasmith::cuda
