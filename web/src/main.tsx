import { render } from 'preact';
import { App } from './app.tsx';
import { startLive } from './live/store.ts';
import { startRouter } from './router.ts';
import './style/base.css';
import './style/cells.css';
import './style/views.css';
import { startClocks } from './ui/clock.ts';
import { startKeyboard } from './ui/keyboard.ts';

startLive();
startRouter();
startClocks();
startKeyboard();
render(<App />, document.getElementById('app')!);
