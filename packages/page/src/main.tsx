import './browser-language.js';
import { render } from 'preact';
import { App } from './app.js';
import { applyTheme } from './theme.js';
import './style/base.css';
import './style/components.css';
import './style/charts.css';
import './style/lists.css';
import './style/jobs.css';
import './style/views.css';

applyTheme();
render(<App />, document.getElementById('app')!);
// It says that this script did not run.
document.getElementById('not-started')?.remove();
