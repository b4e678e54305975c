%% @doc The behaviour `data_publisher' for OTP 25 to 28.
%%
%% OTP 29 has a module of this name in kernel: a replicated store without a leader, in which each node owns
%% its local data, publishes every change to it, and keeps a view of what all nodes have published. This is
%% an implementation of our own with the same functions, callbacks, calls and messages, so that a callback
%% module runs here and there and both meet in one scope. On OTP 29 it's left out of the build.
%%
%% A scope is a process registered under the scope's name. Between scopes of one name there are three
%% messages:
%%
%% <ul>
%% <li>`{discover, Pid, Version}', plain, to the name on a node that comes up, to a pid that is new: tell me
%%     all you have. It's answered with local data, and with a `discover' if the asker is new.</li>
%% <li>`{local_data, Pid, Label, Data}', as a cast: all that `Pid' has, written in format `Label'.</li>
%% <li>`{update, Pid, Update}', plain: a change to the data of `Pid'.</li>
%% </ul>
%%
%% When the monitor of a peer fires, its data goes. Nothing is acknowledged or numbered: each connection
%% starts with all data anew, and on it nothing is skipped.
%%
%% == Versions ==
%%
%% A version is any term; versions are ordered as terms are. What a peer's version is only its `discover'
%% says, and data and updates for a peer are written in the lower of its version and ours, which is also what
%% the label of local data says. (OTP 29 labels with the receiver's version and takes the label for the
%% sender's. So a scope of version 2 there thinks that its peer of version 1 has version 2, and sends it
%% updates it can't read. The lower version as label is right for both.) A callback module is asked to
%% translate to its own version or to a lower one, never to one it can't know.
%%
%% To a peer that has sent its local data and then no `discover' for a second, a label below our version tells
%% its version. Any other may be OTP 29's, which says nothing of it: such a peer is asked for its data once
%% more, and when that is here and still no `discover', it takes us for known and none will come.
%%
%% == Where it differs from OTP 29 ==
%%
%% <ul>
%% <li>The version rule above.</li>
%% <li>Updates go to those peers that have got our local data; to the others it's on its way with the update
%%     in it. Updates of a peer whose local data isn't here yet are ignored for the same reason.</li>
%% <li>If two processes of one node are known, for a moment after its scope has restarted, the view has the
%%     data of the younger one as soon as it's here; the end of the older one changes nothing.</li>
%% <li>What a callback can't read doesn't end the scope. An update of our own is refused as a whole. When
%%     local data or an update of a peer can't be read, all its data leaves the view and it's asked for all of
%%     it again, at most every 30 s. So that nothing is half applied, a callback should take the whole update
%%     apart before it writes to a table.</li>
%% <li>Unknown calls, also updates and subscriptions that can't be read, are answered `{error, badarg}';
%%     {@link update/2} and {@link subscribe/2} raise `badarg'. A failing `translate_message/2' is
%%     logged.</li>
%% <li>Peers that claim to live on our own node are ignored.</li>
%% </ul>
-module(data_publisher).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start/2, start/3, start_link/2, start_link/3, update/2, subscribe/2, unsubscribe/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([scope/0, options/0, version/0, local_data/0, update/0, global_view/0, subscription/0,
              subscribe_result/0, subscriptions/0]).

-type scope() :: atom().
-type options() :: #{standalone => boolean(), term() => term()}.
-type version() :: term().
-type local_data() :: term().
-type update() :: term().
-type global_view() :: term().
-type subscription() :: term().
-type subscribe_result() :: term().
-type subscriptions() :: #{subscription() => #{reference() => pid()}}.

%% The version of what this module writes.
-callback version() -> version().

%% What readers read, for instance a table. Called once, when the scope starts.
-callback init_global_view(scope(), options()) -> global_view().

%% What a node has that has published nothing. Called for the scope itself when it starts, after
%% init_global_view/2, and then again and again for peers.
-callback init_local_data(options()) -> local_data().

%% The scope ends, in an orderly way or by a crash, but not if it's killed.
-callback stop_global_view(global_view()) -> term().

%% Applies an update, ours or a peer's, to the local data of its origin. No side effects. It must read all
%% updates that this version or a lower one ever wrote.
-callback update_local_data(update(), local_data()) -> local_data().

%% Applies the same update, or one made by data_diff/2, to the view, and tells subscribers.
-callback update_global_view_and_notify(node(), update(), subscriptions(), global_view()) -> global_view().

%% The update that turns the old data into the new. No side effects.
-callback data_diff(Old :: local_data(), New :: local_data()) -> update().

%% What a new subscriber gets first.
-callback new_subscription(subscription(), global_view()) -> subscribe_result().

%% An update of ours as a peer of that version reads it, never higher than ours. The second form is sent as
%% it is, message by message.
-callback translate_update(Ours :: version(), Peers :: version(), update()) ->
    update() | {'$plain_messages', [term()]}.

%% The same for our local data; the second form is cast as it is.
-callback translate_local_data(Ours :: version(), Peers :: version(), local_data()) ->
    local_data() | {'$plain_message', term()}.

%% What any other message, plain or cast, means: nothing, an update of ours, or what a peer says in another
%% dialect.
-callback translate_message(term(), global_view()) ->
    {drop, global_view()}
    | {update, update(), global_view()}
    | {update, pid(), update(), global_view()}
    | {local_data, pid(), version(), local_data(), global_view()}
    | {discover, pid(), version(), global_view()}.

-optional_callbacks([translate_message/2]).

%% How long a peer whose data couldn't be read is left alone before it's asked again, in milliseconds.
-define(RETRY, 30_000).

%% How long a peer that sent its data without a `discover' has for it, in milliseconds. On one connection the
%% two come one behind the other, but a peer that takes us for known sends none.
-define(ANSWER, 1_000).

-record(peer, {
    monitor :: reference(),
    %% Counts up with each peer that becomes known.
    since :: pos_integer(),
    %% What it's written to: what its `discover' said, or until that is here the label of its first local
    %% data.
    version :: version(),
    %% That of nobody unless `is_synced'.
    data :: local_data(),
    %% Its local data is here, so that updates can be applied.
    is_synced = false :: boolean(),
    %% It was sent ours, so that it can apply our updates.
    is_told = false :: boolean(),
    %% Runs while it mustn't be asked again.
    retry :: undefined | reference(),
    %% Its `discover', as long as its data is here without one: it has until this timer fires, and once it's
    %% overdue until that of `retry' does.
    answer :: undefined | reference() | overdue
}).

-record(state, {
    scope :: scope(),
    module :: module(),
    options :: options(),
    version :: version(),
    view :: global_view(),
    data :: local_data(),
    peers = #{} :: #{pid() => #peer{}},
    %% Those whose data is here, by node, the youngest first: that one's data is in the view.
    synced = #{} :: #{node() => [pid(), ...]},
    peer_count = 0 :: non_neg_integer(),
    subscriptions = #{} :: subscriptions(),
    subscribers = #{} :: #{reference() => subscription()}
}).

%%% API

%% @equiv start(Scope, Module, #{})
-spec start(scope(), module()) -> {ok, pid()} | {error, term()}.
start(Scope, Module) ->
    start(Scope, Module, #{}).

%% @doc Starts a scope on this node. All options reach the callbacks that take options; the scope itself
%% knows `standalone', with which it greets nobody and answers no greeting.
-spec start(scope(), module(), options()) -> {ok, pid()} | {error, term()}.
start(Scope, Module, Options) ->
    gen_server:start({local, Scope}, ?MODULE, {Scope, Module, Options}, []).

%% @equiv start_link(Scope, Module, #{})
-spec start_link(scope(), module()) -> {ok, pid()} | {error, term()}.
start_link(Scope, Module) ->
    start_link(Scope, Module, #{}).

%% @doc As {@link start/3}, linked to the caller.
-spec start_link(scope(), module(), options()) -> {ok, pid()} | {error, term()}.
start_link(Scope, Module, Options) ->
    gen_server:start_link({local, Scope}, ?MODULE, {Scope, Module, Options}, []).

%% @doc Changes this node's local data. When it returns, the view shows it and all peers are told. Raises
%% `badarg' if the callback module can't read the update.
-spec update(gen_server:server_ref(), update()) -> ok.
update(Scope, Update) ->
    case gen_server:call(Scope, {update, Update}, infinity) of
        ok -> ok;
        {error, badarg} -> error(badarg, [Scope, Update])
    end.

%% @doc Gives what the callback module's `new_subscription/2' does, and has the module notify the caller of
%% changes from then on, until it unsubscribes or ends.
-spec subscribe(gen_server:server_ref(), subscription()) -> {reference(), subscribe_result()}.
subscribe(Scope, Subscription) ->
    case gen_server:call(Scope, {subscribe, Subscription}, infinity) of
        {Ref, Result} when is_reference(Ref) -> {Ref, Result};
        {error, badarg} -> error(badarg, [Scope, Subscription])
    end.

%% @doc Ends a subscription, if it's one.
-spec unsubscribe(gen_server:server_ref(), reference()) -> ok.
unsubscribe(Scope, Ref) when is_reference(Ref) ->
    gen_server:call(Scope, {unsubscribe, Ref}, infinity).

%%% gen_server

%% @private
init({Scope, Module, Options}) ->
    Standalone = maps:get(standalone, Options, false),
    %% Before we look who is there: a node that comes up meanwhile is greeted twice, rather than never.
    Standalone orelse (ok = net_kernel:monitor_nodes(true)),
    Version = Module:version(),
    View = Module:init_global_view(Scope, Options),
    Data = Module:init_local_data(Options),
    State = #state{scope = Scope, module = Module, options = Options, version = Version,
                   view = View, data = Data},
    Standalone orelse [greet({Scope, Node}, State) || Node <- nodes()],
    {ok, State}.

%% @private
handle_call({update, Update}, _From, State) ->
    case prepare(Update, State) of
        {ok, Prepared} -> {reply, ok, perform(Update, Prepared, State)};
        error -> {reply, {error, badarg}, State}
    end;
handle_call({subscribe, Subscription}, {Pid, _Tag}, State) ->
    case subscribe_process(Pid, Subscription, State) of
        {ok, Ref, Result, NewState} -> {reply, {Ref, Result}, NewState};
        error -> {reply, {error, badarg}, State}
    end;
handle_call({unsubscribe, Ref}, _From, State) when is_reference(Ref) ->
    {reply, ok, unsubscribe_process(Ref, State)};
handle_call(_Request, _From, State) ->
    {reply, {error, badarg}, State}.

%% @private
handle_cast(Message, State) ->
    handle_info(Message, State).

%% @private
handle_info({nodeup, Node}, State) when is_atom(Node), Node =/= node() ->
    greet({State#state.scope, Node}, State),
    {noreply, State};
handle_info({NodeUpOrDown, Node}, State)
  when is_atom(Node), NodeUpOrDown =:= nodeup orelse NodeUpOrDown =:= nodedown ->
    {noreply, State};
handle_info({discover, Peer, Version}, State) when is_pid(Peer) ->
    {noreply, discover(Peer, Version, State)};
handle_info({local_data, Peer, Label, Data}, State) when is_pid(Peer) ->
    {noreply, local_data(Peer, Label, Data, State)};
handle_info({update, Peer, Update}, State) when is_pid(Peer) ->
    {noreply, update_of(Peer, Update, State)};
handle_info({{'DOWN', peer}, Ref, process, Peer, _Reason}, State) ->
    {noreply, peer_down(Peer, Ref, State)};
handle_info({{'DOWN', subscribe}, Ref, process, _Pid, _Reason}, State) ->
    {noreply, unsubscribe_process(Ref, State)};
handle_info({timeout, Timer, {?MODULE, Peer}}, State) ->
    {noreply, timeout(Timer, Peer, State)};
handle_info(Message, #state{module = Module} = State) ->
    case erlang:function_exported(Module, translate_message, 2) of
        true -> {noreply, translate_message(Message, State)};
        false -> {noreply, State}
    end.

%% @private
terminate(_Reason, #state{module = Module, view = View}) ->
    Module:stop_global_view(View).

%%% Peers

discover(Peer, _Version, State) when node(Peer) =:= node() ->
    State;
discover(_Peer, _Version, #state{options = #{standalone := true}} = State) ->
    State;
discover(Peer, Version, #state{peers = Peers} = State) ->
    send_local_data(Peer, Version, State),
    NewState =
        case Peers of
            #{Peer := _} ->
                State;
            #{} ->
                Added = add_peer(Peer, Version, State),
                greet(Peer, State),
                Added
        end,
    Known = get_peer(Peer, NewState),
    put_peer(Peer, Known#peer{version = Version, is_told = true, answer = undefined}, NewState).

local_data(Peer, _Label, _Data, State) when node(Peer) =:= node() ->
    State;
local_data(Peer, Label, Data, State) ->
    Known = ensure_peer(Peer, Label, State),
    try reshow(node(Peer), Known, set_data(Peer, Data, Known))
    catch _:_:Stack ->
        unreadable(Peer, local_data, Stack, Known)
    end.

update_of(Peer, Update, #state{peers = Peers} = State) ->
    case Peers of
        #{Peer := #peer{is_synced = true} = Known} ->
            try apply_update(Peer, Known, Update, State)
            catch _:_:Stack ->
                unreadable(Peer, update, Stack, State)
            end;
        #{} ->
            %% Of a stranger: a late word of a connection that is gone. Or of one whose local data isn't
            %% here yet: it will hold the update.
            State
    end.

apply_update(Peer, #peer{data = Data} = Known, Update, #state{module = Module} = State) ->
    %% First what has no side effects, for an update that can't be read fails here.
    NewData = Module:update_local_data(Update, Data),
    NewState = put_peer(Peer, Known#peer{data = NewData}, State),
    Node = node(Peer),
    case State#state.synced of
        #{Node := [Peer | _]} -> show(Node, Update, NewState);
        #{} -> NewState
    end.

%% What can't be read can't be skipped either: what follows builds on it. The peer stays known, for it still
%% gets our updates.
unreadable(Peer, What, Stack, State) ->
    NewState = reshow(node(Peer), State, clear_data(Peer, State)),
    case get_peer(Peer, NewState) of
        #peer{retry = undefined} ->
            ?LOG_WARNING("~tp: can't read the ~ts of ~tp, ~ts failed",
                         [State#state.scope, What, Peer, where(Stack)]),
            ask_again(Peer, NewState);
        #peer{} ->
            NewState
    end.

ask_again(Peer, State) ->
    greet(Peer, State),
    Known = get_peer(Peer, State),
    put_peer(Peer, Known#peer{retry = start_timer(?RETRY, Peer)}, State).

peer_down(Peer, Ref, #state{peers = Peers} = State) ->
    case Peers of
        #{Peer := #peer{monitor = Ref}} ->
            Cleared = clear_data(Peer, State),
            reshow(node(Peer), State, Cleared#state{peers = maps:remove(Peer, Peers)});
        #{} ->
            State
    end.

timeout(Timer, Peer, #state{peers = Peers} = State) ->
    case Peers of
        #{Peer := #peer{retry = Timer, is_synced = true, answer = Answer} = Known} ->
            NewState = put_peer(Peer, Known#peer{retry = undefined}, State),
            case Answer of
                overdue -> tell(Peer, NewState);
                _ -> NewState
            end;
        #{Peer := #peer{retry = Timer}} ->
            ask_again(Peer, State);
        #{Peer := #peer{answer = Timer} = Known} ->
            discover_overdue(Peer, Known, State);
        #{} ->
            State
    end.

%% A label below our version is the version of the peer. But OTP 29 labels with ours whatever its own is, so
%% what the label says mustn't be written: the `discover' may still be on its way, and even behind the answer to
%% our next question, if this data was the answer to one from before the connection. The peer is asked again;
%% when after 30 s there's still no `discover', there'll be none.
discover_overdue(Peer, #peer{version = Label}, #state{version = Ours} = State) when Label < Ours ->
    tell(Peer, State);
discover_overdue(Peer, Known, State) ->
    NewState = put_peer(Peer, Known#peer{answer = overdue}, State),
    case Known of
        #peer{retry = undefined} -> ask_again(Peer, NewState);
        #peer{} -> NewState
    end.

%% Everyone takes local data that it hasn't asked for.
tell(Peer, State) ->
    #peer{version = Label} = Known = get_peer(Peer, State),
    send_local_data(Peer, Label, State),
    put_peer(Peer, Known#peer{is_told = true, answer = undefined}, State).

start_timer(Time, Peer) ->
    erlang:start_timer(Time, self(), {?MODULE, Peer}).

ensure_peer(Peer, _Label, #state{peers = Peers} = State) when is_map_key(Peer, Peers) ->
    State;
ensure_peer(Peer, Label, State) ->
    NewState = add_peer(Peer, Label, State),
    case State#state.options of
        #{standalone := true} ->
            NewState;
        #{} ->
            Known = get_peer(Peer, NewState),
            put_peer(Peer, Known#peer{answer = start_timer(?ANSWER, Peer)}, NewState)
    end.

add_peer(Peer, Version, #state{peer_count = Count} = State) ->
    Monitor = erlang:monitor(process, Peer, [{tag, {'DOWN', peer}}]),
    Known = #peer{monitor = Monitor, since = Count + 1, version = Version,
                  data = init_local_data(State)},
    put_peer(Peer, Known, State#state{peer_count = Count + 1}).

get_peer(Peer, #state{peers = Peers}) ->
    map_get(Peer, Peers).

put_peer(Peer, Known, #state{peers = Peers} = State) ->
    State#state{peers = Peers#{Peer => Known}}.

%%% Whose data is in the view

set_data(Peer, Data, #state{synced = Synced} = State) ->
    Node = node(Peer),
    Known = get_peer(Peer, State),
    NewState = put_peer(Peer, Known#peer{data = Data, is_synced = true}, State),
    Others = lists:delete(Peer, maps:get(Node, Synced, [])),
    IsYounger = fun(Other) -> (get_peer(Other, State))#peer.since > Known#peer.since end,
    {Younger, Older} = lists:splitwith(IsYounger, Others),
    NewState#state{synced = Synced#{Node => Younger ++ [Peer | Older]}}.

clear_data(Peer, #state{synced = Synced} = State) ->
    Node = node(Peer),
    Known = get_peer(Peer, State),
    NewState = put_peer(Peer, Known#peer{data = init_local_data(State), is_synced = false}, State),
    case lists:delete(Peer, maps:get(Node, Synced, [])) of
        [] -> NewState#state{synced = maps:remove(Node, Synced)};
        Others -> NewState#state{synced = Synced#{Node => Others}}
    end.

%% Peers of the node have changed: brings the view from what it shows of it to what it should show now.
reshow(Node, Before, After) ->
    case {shown(Node, Before), shown(Node, After)} of
        {Same, Same} ->
            After;
        {{_, Old}, {_, New}} ->
            show(Node, (After#state.module):data_diff(Old, New), After)
    end.

shown(Node, #state{synced = Synced} = State) ->
    case Synced of
        #{Node := [Peer | _]} -> {Peer, (get_peer(Peer, State))#peer.data};
        #{} -> {none, init_local_data(State)}
    end.

show(Node, Update, #state{module = Module, subscriptions = Subscriptions, view = View} = State) ->
    State#state{view = Module:update_global_view_and_notify(Node, Update, Subscriptions, View)}.

init_local_data(#state{module = Module, options = Options}) ->
    Module:init_local_data(Options).

%%% Our own data

%% All of an update that has no side effects: the data afterwards, and what to send to each peer.
prepare(Update, #state{module = Module, data = Data} = State) ->
    try {Module:update_local_data(Update, Data), translate_update(Update, State)} of
        Prepared -> {ok, Prepared}
    catch _:_:Stack ->
        ?LOG_NOTICE("~tp: refused an update, ~ts failed", [State#state.scope, where(Stack)]),
        error
    end.

%% The view comes first: whoever is told of a change must find it.
perform(Update, {Data, Messages}, State) ->
    NewState = show(node(), Update, State#state{data = Data}),
    [send(Peer, Message) || {Peer, ForPeer} <- Messages, Message <- ForPeer],
    NewState.

translate_update(Update, #state{peers = Peers} = State) ->
    Told = [{Peer, lower(Version, State)}
            || {Peer, #peer{is_told = true, version = Version}} <- maps:to_list(Peers)],
    Translate = fun(Format, []) -> translate_update(Update, Format, State) end,
    ByFormat = maps:map(Translate, maps:from_keys([Format || {_, Format} <- Told], [])),
    [{Peer, map_get(Format, ByFormat)} || {Peer, Format} <- Told].

translate_update(Update, Format, #state{module = Module, version = Version}) ->
    case Module:translate_update(Version, Format, Update) of
        {'$plain_messages', Messages} -> Messages;
        Translated -> [{update, self(), Translated}]
    end.

send_local_data(Peer, PeerVersion, #state{module = Module, version = Version, data = Data} = State) ->
    Format = lower(PeerVersion, State),
    Message =
        case Module:translate_local_data(Version, Format, Data) of
            {'$plain_message', Plain} -> Plain;
            Translated -> {local_data, self(), Format, Translated}
        end,
    send(Peer, {'$gen_cast', Message}).

lower(Version, #state{version = Ours}) when Version < Ours -> Version;
lower(_Version, #state{version = Ours}) -> Ours.

greet(To, #state{version = Version}) ->
    send(To, {discover, self(), Version}).

%% Waits when the connection is busy: a message that is skipped would be missed for ever.
send(To, Message) ->
    _ = erlang:send(To, Message, [noconnect]),
    ok.

%%% Other messages

translate_message(Message, #state{module = Module, view = View} = State) ->
    try Module:translate_message(Message, View) of
        {drop, NewView} ->
            State#state{view = NewView};
        {update, Update, NewView} ->
            NewState = State#state{view = NewView},
            case prepare(Update, NewState) of
                {ok, Prepared} -> perform(Update, Prepared, NewState);
                error -> NewState
            end;
        {update, Peer, Update, NewView} ->
            update_of(Peer, Update, State#state{view = NewView});
        {local_data, Peer, Label, Data, NewView} ->
            local_data(Peer, Label, Data, State#state{view = NewView});
        {discover, Peer, Version, NewView} ->
            discover(Peer, Version, State#state{view = NewView});
        _ ->
            State
    catch _:_:Stack ->
        ?LOG_NOTICE("~tp: ignored a message, ~ts failed", [State#state.scope, where(Stack)]),
        State
    end.

%% Where a callback failed; what it failed on stays out of logs.
where([{Module, Function, Arguments, _} | _]) when is_list(Arguments) ->
    where([{Module, Function, length(Arguments), []}]);
where([{Module, Function, Arity, _} | _]) ->
    io_lib:format("~tp:~tp/~w", [Module, Function, Arity]);
where([]) ->
    "a callback".

%%% Subscribers

subscribe_process(Pid, Subscription, #state{module = Module} = State) ->
    try Module:new_subscription(Subscription, State#state.view) of
        Result ->
            Ref = erlang:monitor(process, Pid, [{tag, {'DOWN', subscribe}}]),
            #state{subscriptions = Subscriptions, subscribers = Subscribers} = State,
            Others = maps:get(Subscription, Subscriptions, #{}),
            NewState = State#state{
                subscriptions = Subscriptions#{Subscription => Others#{Ref => Pid}},
                subscribers = Subscribers#{Ref => Subscription}
            },
            {ok, Ref, Result, NewState}
    catch _:_:Stack ->
        ?LOG_NOTICE("~tp: refused a subscription, ~ts failed", [State#state.scope, where(Stack)]),
        error
    end.

unsubscribe_process(Ref, #state{subscriptions = Subscriptions, subscribers = Subscribers} = State) ->
    case maps:take(Ref, Subscribers) of
        {Subscription, Left} ->
            erlang:demonitor(Ref, [flush]),
            Others = maps:remove(Ref, map_get(Subscription, Subscriptions)),
            NewSubscriptions =
                case map_size(Others) of
                    0 -> maps:remove(Subscription, Subscriptions);
                    _ -> Subscriptions#{Subscription := Others}
                end,
            State#state{subscriptions = NewSubscriptions, subscribers = Left};
        error ->
            State
    end.
