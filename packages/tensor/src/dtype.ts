/** The element types of the engine, and TensorFlow's number (TF_DataType) for each. */
export const TF_DATA_TYPE = {
  float32: 1,
  int32: 3,
  uint8: 4,
  int64: 9,
  bool: 10,
  bfloat16: 14,
  float16: 19,
} as const;

export type DType = keyof typeof TF_DATA_TYPE;

/** The types in which a model can compute. */
export type FloatDType = 'float32' | 'bfloat16';

export const BYTES_PER_ELEMENT: Record<DType, number> = {
  float32: 4,
  int32: 4,
  uint8: 1,
  int64: 8,
  bool: 1,
  bfloat16: 2,
  float16: 2,
};

const NAMES = new Map<number, DType>(Object.entries(TF_DATA_TYPE).map(([name, number]) => [number, name as DType]));

export function dtypeOf(tfDataType: number): DType {
  const name = NAMES.get(tfDataType);
  if (name === undefined) throw new Error(`the engine does not support TensorFlow's data type ${tfDataType}`);
  return name;
}
