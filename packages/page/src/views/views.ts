import type { View } from '../components/view.js';
import { AdapterView } from './adapters/adapter-view.js';
import { AdaptersView } from './adapters/adapters-view.js';
import { ChatView } from './chat/chat-view.js';
import { CompareView } from './compare-view.js';
import { DatasetView } from './datasets/dataset-view.js';
import { DatasetsView } from './datasets/datasets-view.js';
import { JobView } from './job/job-view.js';
import { JobsView } from './jobs/jobs-view.js';
import { MachinesView } from './machines-view.js';
import { ModelView } from './models/model-view.js';
import { ModelsView } from './models/models-view.js';
import { NewJobView } from './new-job/new-job-view.js';
import { SweepView } from './sweeps/sweep-view.js';
import { SweepsView } from './sweeps/sweeps-view.js';

/** Every view of the page. The first whose path matches is shown. */
export const VIEWS: readonly View[] = [
  { path: '/jobs', View: JobsView },
  { path: '/jobs/:id', View: JobView },
  { path: '/sweeps', View: SweepsView },
  { path: '/sweeps/:id', View: SweepView },
  { path: '/compare', View: CompareView },
  { path: '/new-job', View: NewJobView },
  { path: '/datasets', View: DatasetsView },
  { path: '/datasets/:id', View: DatasetView },
  { path: '/models', View: ModelsView },
  { path: '/models/:name', View: ModelView },
  { path: '/adapters', View: AdaptersView },
  { path: '/adapters/:id', View: AdapterView },
  { path: '/chat', View: ChatView },
  { path: '/machines', View: MachinesView },
];

/** The view at the address of the page itself. */
export const FIRST_PATH = '/jobs';

/** The views in the menu, and whether one is of no use to a key that only reads. */
export const NAVIGATION: readonly { to: string; label: string; needsChange?: true }[] = [
  { to: '/jobs', label: 'Jobs' },
  { to: '/sweeps', label: 'Sweeps' },
  { to: '/new-job', label: 'New job', needsChange: true },
  { to: '/datasets', label: 'Datasets' },
  { to: '/models', label: 'Models' },
  { to: '/adapters', label: 'Adapters' },
  { to: '/chat', label: 'Chat', needsChange: true },
  { to: '/machines', label: 'Machines' },
];
