/**
 * How a worker, or a trainer of one, ends that sees no GPU and was to compute with one. EX_UNAVAILABLE of sysexits.h: not a
 * fault of the settings (78), and not a crash (1).
 */
export const NO_GPU_EXIT_CODE = 69;
