/** An error of NVIDIA's driver, as the CUDA engine words it: `CUDA_ERROR_LAUNCH_FAILED (719)`. */
export interface CudaError {
  name: string;
  code: number;
}

const CUDA_ERROR = /(CUDA_ERROR_[A-Z0-9_]+) \((\d+)\)/;

/** Codes after which the card and the process are as usable as before. */
const HARMLESS: ReadonlySet<number> = new Set([
  2, // out of memory
]);

/** Codes of kernels that the driver does not load: the files are damaged, or made for other cards. */
const NOT_LOADED: ReadonlySet<number> = new Set([
  200, // invalid image
  209, // no binary for this GPU
  218, // invalid PTX
  222, // PTX of a newer version
  300, // invalid source
  301, // file not found
  500, // not found: the module has no such kernel
]);

/** The first error of the driver in a text; null where there is none. */
export function cudaErrorIn(text: string): CudaError | null {
  const [, name, code] = CUDA_ERROR.exec(text) ?? [];
  return name === undefined ? null : { name, code: Number(code) };
}

/**
 * Whether the process can no longer compute on the card: after such an error every call of the driver fails. The card
 * itself may be well, which only another process can find out.
 */
export function endsCudaContext({ code }: CudaError): boolean {
  return !HARMLESS.has(code) && !NOT_LOADED.has(code);
}

/** Whether the driver refused to load the kernels of the CUDA engine. */
export function isUnloadableKernel({ code }: CudaError): boolean {
  return NOT_LOADED.has(code);
}
