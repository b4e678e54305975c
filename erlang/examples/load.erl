%% @doc Each node publishes its load, a number; every node sees the load of all. The twin of the Rust example
%% `load' (`integration/examples/load.rs').
%%
%% ```
%% {ok, _} = load:start().
%% ok = load:set(7).
%% #{'a@127.0.0.1' := 7} = load:all().
%% {Ref, All} = load:subscribe().      % and messages {Ref, Node, Load}
%% '''
-module(load).
-behaviour(data_publisher).

-export([start/0, set/1, all/0, subscribe/0]).
-export([version/0, init_global_view/2, init_local_data/1, stop_global_view/1, update_local_data/2,
         update_global_view_and_notify/4, data_diff/2, new_subscription/2, translate_update/3,
         translate_local_data/3]).

start() -> data_publisher:start(load, ?MODULE).
set(Load) -> data_publisher:update(load, Load).
subscribe() -> data_publisher:subscribe(load, {}).
all() ->
    {Ref, All} = subscribe(),
    ok = data_publisher:unsubscribe(load, Ref),
    All.

version() -> 1.
init_local_data(_Options) -> 0.
init_global_view(_Scope, _Options) -> #{}.
stop_global_view(_View) -> ok.
update_local_data(Load, _Old) -> Load.
data_diff(_Old, New) -> New.
new_subscription({}, View) -> View.
translate_update(_Mine, _Theirs, Load) -> Load.
translate_local_data(_Mine, _Theirs, Load) -> Load.

update_global_view_and_notify(Node, Load, Subscriptions, View) ->
    maps:foreach(fun(Ref, Pid) -> erlang:send(Pid, {Ref, Node, Load}, [noconnect]) end,
                 maps:get({}, Subscriptions, #{})),
    View#{Node => Load}.
