import { answerParent } from '@lorasmith/child-processes';

// Whether a process that starts now can compute on the GPU. Asked when a trainer has failed on it.

answerParent('try of the GPU', async () => {
  try {
    const { tryGpu } = await import('@lorasmith/training');
    tryGpu();
    return { fault: null };
  } catch (error) {
    return { fault: error instanceof Error ? error.message : String(error) };
  }
});
