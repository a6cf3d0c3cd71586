import { answerParent } from '@lorasmith/child-processes';
import { type CudaInstallation, describeDriver } from '@lorasmith/training/cuda-installation';

// A process of its own: what the driver allocates goes when it ends, and a driver that hangs does not stop the worker.

answerParent('description of the driver', async (installation: CudaInstallation) => describeDriver(installation));
