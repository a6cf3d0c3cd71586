/** The fused kernels that this process was started to avoid, since they failed the self-test on its card. */
export function avoidedKernels(): string[] {
  return process.argv.slice(3);
}
